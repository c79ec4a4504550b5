"""Trains an S2S model's `hearing` by itself: sounds, tokens and what is asked, from all that users say.

    python -m paluku.training.hearing_loop CONFIG.yaml [key=value ...]

What comes out is a whole S2S model of which only the hearing has learned: `begin_from` of the run that trains
the rest (`training.s2s_loop`), at several times the frames a second of that. Sounds and tokens are learned by
connectionist temporal classification: nobody has to say where in a turn they lie. What is asked is read from
the sum of what a turn's frames tell the transformer: it adds up, in whatever order the words come.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from paluku.config import AbsolutePath, Config, from_command_line
from paluku.corpus.shards import ShardSet, Split, read_manifest
from paluku.errors import CheckpointError, ConfigError, CorpusError, exits_cleanly
from paluku.log import to_stderr
from paluku.registry.artefact import read_card
from paluku.s2s.hearing import TURN_FRAMES, Hearing
from paluku.s2s.model import S2SConfig, S2SModel
from paluku.shapes import Codes
from paluku.tokens.distance import edit_distance
from paluku.tokens.sounds import alphabet
from paluku.tokens.sources import check_alike, joint_hash, made_with
from paluku.tokens.text import PAD, TextTokenizer
from paluku.training import checkpoint
from paluku.training.average import WeightAverage
from paluku.training.console import ConsoleReporter
from paluku.training.hearing_data import UNKNOWN, Lesson, Lessons, Turn, turns_of
from paluku.training.optim import check_finite, decayed_groups
from paluku.training.ports import Reporter
from paluku.training.s2s_begin import begin_, begin_codes_, tokenizer_of
from paluku.training.s2s_parallel import autocast
from paluku.training.schedule import set_learning_rate, warmup_cosine
from paluku.training.world import World, current_world

BLANK = PAD  # of sounds and tokens: nothing new
BETAS = (0.9, 0.98)


class HearingTrainingConfig(Config):
    """One run, on one device."""

    tokens: tuple[AbsolutePath, ...] = Field(min_length=1)  # folders of tokens (paluku.corpus.shards)
    out: AbsolutePath  # checkpoints come here
    model: S2SConfig  # with `hearing`
    begin_from: AbsolutePath | None = None  # a model's folder; all of it but the hearing stays as it is
    codes_from: str | None = "default"  # as in S2STrainingConfig; of a model that begins from nothing
    tokenizer: str = "default"
    steps: int = Field(default=6000, ge=1)
    frames: int = Field(default=5000, ge=1)  # of a step, silence behind shorter turns counted
    learning_rate: float = Field(default=1.5e-3, gt=0)
    warmup_steps: int = Field(default=200, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    average_decay: float = Field(default=0.997, ge=0, lt=1)
    tokens_weight: float = Field(default=0.4, ge=0)  # beside 1 for the sounds
    intents_weight: float = Field(default=0.3, ge=0)
    # The share of turns of which only the first codebooks are heard, and of frames that are not heard.
    drop_codebooks: float = Field(default=0.3, ge=0, le=1)
    hide_frames: float = Field(default=0.05, ge=0, lt=1)
    bfloat16: bool = True
    seed: int = Field(default=0, ge=0)
    log_every: int = Field(default=100, ge=1)
    evaluate_every: int = Field(default=500, ge=1)
    checkpoint_every: int = Field(default=500, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _one_folder_is_enough(cls, values: dict) -> dict:
        if isinstance(values.get("tokens"), str | Path):
            return {**values, "tokens": (values["tokens"],)}
        return values

    @model_validator(mode="after")
    def _has_hearing(self) -> "HearingTrainingConfig":
        if self.model.hearing is None:
            raise ValueError("model.hearing is missing: give it, if only as {}")
        return self


class Told(nn.Module):
    """Hearing, and what only training asks it for: sounds and intents."""

    def __init__(self, hearing: Hearing, sounds: int, intents: int) -> None:
        super().__init__()
        self.hearing = hearing
        self.sounds = nn.Linear(hearing.config.width, 1 + sounds)
        self.intents = nn.Linear(hearing.out.out_features, max(1, intents))

    def forward(
        self, codes: Codes, frames: Int[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B T S"], Float[Tensor, "B T V"], Float[Tensor, "B I"]]:
        """Logits of each frame's sound and token, and of each turn's intent."""
        position = torch.arange(codes.shape[2], device=codes.device).expand(len(codes), -1)
        heard = self.hearing(codes, position)
        gist = heard.gist * (position < frames[:, None])[..., None]
        asked = self.intents(gist.float().sum(dim=1) / TURN_FRAMES)
        return self.sounds(heard.sounds), self.hearing.tokens(heard.words), asked


@dataclass
class TrainState:
    """Everything a step changes, and what it needs to change it."""

    config: HearingTrainingConfig
    world: World
    model: S2SModel
    told: Told
    average: WeightAverage
    optimiser: torch.optim.Optimizer
    parents: dict[str, str]
    step: int = 0  # steps done


def run(config: HearingTrainingConfig, reporter: Reporter, resume: Path | None = None) -> Path:
    """Train to the end, from the start or from a checkpoint; the last checkpoint's folder.

    Raises:
        CorpusError: when the tokens are not whole, have no train or dev split, or nobody speaks in them.
        CheckpointError: when codec or tokenizer are not those of the tokens, what it begins from is missing
            or of other sizes, or `resume` is damaged or of another run.
        ConfigError: when there are several workers.
        StorageError: when `config.out` cannot be written.
        TrainingError: when the loss diverges.
    """
    if (world := current_world()).size > 1:
        raise ConfigError(f"hearing is trained by one worker, not {world.size}: start it without torchrun")
    train, dev = _sets(config, "train"), _sets(config, "dev")
    tokenizer = tokenizer_of(config.tokenizer, train[0])
    if tokenizer.vocab_size > config.model.text_vocab:
        raise CheckpointError(
            f"the tokens' tokenizer has {tokenizer.vocab_size} tokens, the model {config.model.text_vocab}; "
            "set model.text_vocab to as many"
        )
    spoken, unseen = (turns_of(sets, config.model) for sets in (train, dev))
    letters = alphabet(turn.text for turn in spoken)
    intents = sorted({turn.intent for turn in spoken} - {""})
    lessons, exam = (_lessons(config, turns, letters, intents, tokenizer) for turns in (spoken, unseen))
    state = build(config, train, len(letters), len(intents), resumes=resume is not None)
    if resume is not None:
        restore_(state, resume)
    folder = None
    while state.step < config.steps:
        lesson = lessons.step(state.step, config.drop_codebooks, config.hide_frames)
        losses = step(state, lesson)
        if _due(state, config.log_every):
            reporter.metrics(state.step, {name: loss.item() for name, loss in losses.items()})
        if _due(state, config.evaluate_every):
            reporter.metrics(state.step, evaluate(state, exam))
        if _due(state, config.checkpoint_every):
            folder = save(state, reporter)
    return folder or save(state, reporter)


def _due(state: TrainState, every: int) -> bool:
    return state.step % every == 0 or state.step == state.config.steps


def _sets(config: HearingTrainingConfig, split: Split) -> list[ShardSet]:
    """Of every folder that has the split; all made with the same codec and tokenizer."""
    there = [folder for folder in config.tokens if read_manifest(folder, "tokens").rows(split)]
    sets = [ShardSet(folder, "tokens", split) for folder in (config.tokens if split == "train" else there)]
    if not sets:
        raise CorpusError(
            f"none of {', '.join(map(str, config.tokens))} has a split {split}; build one with it"
        )
    check_alike(sets)
    return sets


def _lessons(
    config: HearingTrainingConfig,
    turns: list[Turn],
    letters: str,
    intents: list[str],
    tokenizer: TextTokenizer,
) -> Lessons:
    return Lessons(turns, letters, intents, tokenizer, config.frames, config.model.pad_code, config.seed)


def build(
    config: HearingTrainingConfig, tokens: list[ShardSet], sounds: int, intents: int, *, resumes: bool = False
) -> TrainState:
    """A fresh state. What it `resumes` from has the weights it once began from."""
    torch.manual_seed(config.seed)
    model, parents = S2SModel(config.model), made_with(tokens[0].manifest)
    heard = joint_hash(each.manifest for each in tokens)
    if config.begin_from is not None and not resumes:
        parents = _begun(config, model, parents)
    elif config.codes_from is not None and not resumes:
        begin_codes_(model, config.codes_from, parents["codec"])
    assert model.hearing is not None, "the configuration has seen to it"
    world = current_world()
    told = Told(model.hearing, sounds, intents)
    told.to(world.device)
    groups = decayed_groups(told, config.weight_decay)
    optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, betas=BETAS, fused=True)
    average = WeightAverage(told, config.average_decay)
    return TrainState(config, world, model, told, average, optimiser, {**parents, "tokens": heard})


def _begun(config: HearingTrainingConfig, model: S2SModel, parents: dict[str, str]) -> dict[str, str]:
    """Fill the model from another; what its card is to say it comes from."""
    assert config.begin_from is not None, "whoever calls has seen to it"
    begun = read_card(config.begin_from)
    for part, digest in parents.items():
        if (own := begun.parents.get(part)) != digest:
            raise CheckpointError(
                f"begin_from: {config.begin_from} was trained with {part} {own}, the tokens were made "
                f"with {digest}; give a model of that one"
            )
    return {**begun.parents, **begin_(model, str(config.begin_from), "none", hears_anew=True)}


def step(state: TrainState, lesson: Lesson) -> dict[str, Tensor]:
    """One update; the losses before it: nats a sound, a token, a turn whose intent is known.

    Raises:
        TrainingError: when the gradient is not finite; weights are left as they were.
    """
    config = state.config
    torch.manual_seed(config.seed * 1_000_003 + state.step)  # what is dropped, in a resumed run the same
    state.told.train()
    sounds, tokens, intents = _losses(state, lesson)
    loss = sounds + config.tokens_weight * tokens + config.intents_weight * intents
    share = warmup_cosine(state.step, config.steps, config.warmup_steps)
    set_learning_rate(state.optimiser, share * config.learning_rate)
    state.optimiser.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(state.told.parameters(), config.max_gradient_norm)
    check_finite(norm, state.step + 1, {"loss": loss})
    state.optimiser.step()
    state.average.update(state.told)
    state.step += 1
    told = {"sounds": sounds, "tokens": tokens, "intents": intents}
    return {name: value.detach() for name, value in told.items()} | {"gradient_norm": norm}


def _losses(state: TrainState, lesson: Lesson) -> tuple[Tensor, Tensor, Tensor]:
    device = state.world.device
    frames, intent = lesson.frames.to(device), lesson.intent.to(device)
    with autocast(state.world, state.config.bfloat16):
        sounds, tokens, asked = state.told(lesson.codes.to(device), frames)
    intents = F.cross_entropy(
        asked.float(), intent, ignore_index=UNKNOWN, reduction="sum", label_smoothing=0.1
    )
    return (
        _spelled(sounds, frames, lesson.sounds, lesson.sound_counts),
        _spelled(tokens, frames, lesson.tokens, lesson.token_counts),
        intents / (intent != UNKNOWN).sum().clamp(min=1),
    )


def _spelled(
    logits: Float[Tensor, "B T V"],
    frames: Int[Tensor, "B"],
    targets: Int[Tensor, "S"],
    counts: Int[Tensor, "B"],
) -> Float[Tensor, ""]:
    """Nats a target; turns too short for theirs count nothing."""
    log_probs = logits.float().log_softmax(dim=-1).transpose(0, 1)
    targets, counts = targets.to(logits.device), counts.to(logits.device)
    nats = F.ctc_loss(log_probs, targets, frames, counts, BLANK, reduction="sum", zero_infinity=True)
    return nats / counts.sum().clamp(min=1)


@torch.no_grad()
def evaluate(state: TrainState, exam: Lessons) -> dict[str, float]:
    """The averaged weights on unheard voices: edits a sound, edits a token, the share of intents told."""
    state.told.eval()
    edits, said = [0, 0], [0, 0]
    right = known = 0
    with state.average.averaged(state.told):
        for lesson in exam.all():
            frames = lesson.frames.to(state.world.device)
            with autocast(state.world, state.config.bfloat16):
                *heard, asked = state.told(lesson.codes.to(state.world.device), frames)
            targets = ((lesson.sounds, lesson.sound_counts), (lesson.tokens, lesson.token_counts))
            for kind, (logits, (flat, counts)) in enumerate(zip(heard, targets, strict=True)):
                for row, count, true in zip(logits, lesson.frames, flat.split(counts.tolist()), strict=True):
                    edits[kind] += edit_distance(collapsed(row[:count].argmax(-1)).tolist(), true.tolist())
                    said[kind] += len(true)
            is_known = lesson.intent != UNKNOWN
            right += int((asked.argmax(dim=1).cpu() == lesson.intent)[is_known].sum())
            known += int(is_known.sum())
    told = {"dev_sound_error": edits[0] / max(1, said[0]), "dev_token_error": edits[1] / max(1, said[1])}
    return told | ({"dev_intents_right": right / known} if known else {})


def collapsed(classes: Int[Tensor, "T"]) -> Int[Tensor, "N"]:
    """The best path's targets: repeated classes once, blanks not at all."""
    return (once := classes.unique_consecutive())[once != BLANK]


def save(state: TrainState, reporter: Reporter) -> Path:
    """Write `out/step-NNNNNN`. Raises `StorageError`."""
    folder = checkpoint.folder_of(state.config.out, state.step)
    training = {
        "weights": state.told.state_dict(),
        "average": state.average.state_dict(),
        "optimiser": state.optimiser.state_dict(),
    }
    with state.average.averaged(state.told):
        served = {name: weight.cpu().clone() for name, weight in state.model.state_dict().items()}
    about = {"step": state.step, "run_id": reporter.run_id, "parents": state.parents}
    checkpoint.save(folder, "s2s", state.config.model, served, training, **about)
    reporter.checkpoint(folder, state.step)
    checkpoint.prune(state.config.out)
    return folder


def restore_(state: TrainState, folder: Path) -> None:
    """Bring a fresh state to where a checkpoint was, in place. Raises `CheckpointError`."""
    card, weights, training = checkpoint.restore(folder, "s2s", state.config.model, state.parents)
    here = state.told.state_dict()
    if other := [n for n, w in training["weights"].items() if n not in here or here[n].shape != w.shape]:
        raise CheckpointError(
            f"{folder} was trained on other tokens ({other[0]} has another size); give it those it began "
            "with, or another folder for a new run"
        )
    state.model.load_state_dict(weights)
    state.told.load_state_dict(training["weights"])
    state.average.load_state_dict(training["average"])
    state.optimiser.load_state_dict(training["optimiser"])
    state.parents, state.step = dict(card.parents), card.step


@exits_cleanly
def main() -> None:
    """Train on this machine; a run that was stopped goes on from the newest checkpoint in `out`."""
    config = from_command_line(HearingTrainingConfig, __doc__ or "")
    to_stderr()
    run(config, ConsoleReporter(current_world()), checkpoint.newest(config.out))


if __name__ == "__main__":
    main()
