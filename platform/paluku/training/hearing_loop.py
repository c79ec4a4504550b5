"""Trains an S2S model's `hearing` by itself: letters, from windows of all dialogues in any order.

    python -m paluku.training.hearing_loop CONFIG.yaml [key=value ...]

What comes out is a whole S2S model of which only the hearing has learned: `begin_from` of the run that
trains the rest (`training.s2s_loop`). A batch of windows costs a hundredth of the frames of as many dialogues
as they come from, and is far more varied: minutes do here what hours do there.

Letters are spread evenly over their words at first; at `realign_at` they are put where what has been learned
hears them, and so is the silence before a word.
"""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from paluku.config import AbsolutePath, Config, from_command_line
from paluku.corpus.shards import ShardSet, Split
from paluku.errors import CheckpointError, CorpusError, StorageError, exits_cleanly
from paluku.log import logger, to_stderr
from paluku.registry.artefact import appearing_whole, read_card, write_model
from paluku.s2s.hearing import Hearing
from paluku.s2s.model import S2SConfig, S2SModel
from paluku.tokens.batches import Crop, Sizes, token_batch
from paluku.tokens.letters import Letters, align
from paluku.tokens.text import PAD
from paluku.training.console import ConsoleReporter
from paluku.training.optim import decayed_groups
from paluku.training.ports import Reporter
from paluku.training.s2s_begin import begin_, begin_codes_, letters_of
from paluku.training.s2s_parallel import autocast
from paluku.training.schedule import set_learning_rate, warmup_cosine
from paluku.training.world import World, current_world

log = logger("training")

SILENT_FRAMES = 6  # before a word, that are learned from, too
_AT_ONCE = 4096  # windows, where nothing is learned


class HearingTrainingConfig(Config):
    """One run, on one device."""

    tokens: AbsolutePath  # folder of tokens (paluku.corpus.shards)
    out: AbsolutePath  # the model's folder; it must not be there yet
    model: S2SConfig  # with `hearing`
    begin_from: AbsolutePath | None = None  # a model's folder; all of it but the hearing stays as it is
    codes_from: str | None = "default"  # as in S2STrainingConfig; of a model that begins from nothing
    tokenizer: str = "default"
    steps: int = Field(default=6000, ge=1)
    batch: int = Field(default=512, ge=1)  # windows
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=0.1, ge=0)
    # The share of windows of which only the first codebooks are heard, and of frames that are not heard.
    drop_codebooks: float = Field(default=0.5, ge=0, le=1)
    hide_frames: float = Field(default=0.1, ge=0, lt=1)
    realign_at: tuple[int, ...] = (1000, 2500)  # steps after which letters are placed anew
    bfloat16: bool = True
    seed: int = Field(default=0, ge=0)
    log_every: int = Field(default=100, ge=1)
    evaluate_every: int = Field(default=500, ge=1)

    @model_validator(mode="after")
    def _has_hearing(self) -> "HearingTrainingConfig":
        if self.model.hearing is None:
            raise ValueError("model.hearing is missing: give it, if only as {}")
        return self


class WordFrames(NamedTuple):
    """A word in `Windows`: its first frame there, how many it has, its letters."""

    first: int
    frames: int
    letters: tuple[int, ...]


class Windows(NamedTuple):
    """The frames of a split in which words of the user's lie, or nothing just before one; and what precedes.

    `letter` is what is heard there, `PAD` for silence.
    """

    codes: Int[Tensor, "K N"]  # all dialogues, one after the other
    place: Int[Tensor, "M"]  # of each such frame
    lived: Int[Tensor, "M"]  # its number in its dialogue
    letter: Int[Tensor, "M"]
    words: list[WordFrames]

    def batch(self, chosen: Int[Tensor, "B"], window: int) -> tuple[Tensor, Tensor, Tensor]:
        """Codes `[B, K, W]`, the frame itself last; how many frames were before it; the letter."""
        at = self.place[chosen][:, None] + torch.arange(1 - window, 1)
        codes = self.codes[:, at.clamp(min=0)].transpose(0, 1)
        return codes.long(), self.lived[chosen], self.letter[chosen]


def windows_of(tokens: ShardSet, letters: Letters, sizes: Sizes) -> Windows:
    """Of a split, in its order.

    Raises:
        CorpusError: when the tokens do not fit the model's sizes, or no letter is heard in them.
    """
    codes, places, lived, heard, words, first, count = [], [], [], [], [], 0, 0
    for row in tokens.rows(range(len(tokens))):
        dialogue = token_batch([[Crop(row, 0, row["num_frames"])]], row["num_frames"], sizes)
        codes.append(dialogue.user_codes[0].numpy().astype(np.int16))
        user_text = dialogue.user_text[0].numpy()
        spoken, said = letters.words(user_text), np.full(len(user_text), PAD)
        asked = np.zeros(len(user_text), bool)
        for word in spoken:
            said[word.start : word.end] = word.spread()
            asked[max(0, word.start - SILENT_FRAMES) : word.end] = True
        own = np.flatnonzero(asked)
        for word in spoken:
            begins = count + int(np.searchsorted(own, word.start))
            words.append(WordFrames(begins, word.end - word.start, word.letters))
        count += len(own)
        places.append(first + own)
        lived.append(own)
        heard.append(said[own])
        first += row["num_frames"]
    if not words:
        raise CorpusError(
            f"no letter of the user's is heard in split {tokens.split} of {tokens.folder}; extract tokens of "
            "dialogues that have transcripts"
        )
    place, own, letter = (torch.from_numpy(np.concatenate(each)) for each in (places, lived, heard))
    return Windows(torch.from_numpy(np.concatenate(codes, axis=1)), place, own, letter, words)


def run(config: HearingTrainingConfig, reporter: Reporter) -> Path:
    """Train to the end; the model's folder.

    Raises:
        CorpusError: when the tokens are not whole or have no train or dev split; as `windows_of`.
        CheckpointError: when codec or tokenizer are not those of the tokens, or what it begins from is
            missing or of other sizes.
        StorageError: when `config.out` is there already, or cannot be written.
    """
    if config.out.exists():
        raise StorageError(f"{config.out} is there already; choose another folder, or remove it")
    world = current_world()
    model, parents = _beginning(config)
    assert model.hearing is not None
    hearing = model.hearing.to(world.device)
    splits = {split: _windows(config, split) for split in ("train", "dev")}
    optimiser = torch.optim.AdamW(decayed_groups(hearing, config.weight_decay), lr=config.learning_rate)
    train, random = splits["train"], torch.Generator().manual_seed(config.seed)
    for step in range(1, config.steps + 1):
        set_learning_rate(
            optimiser, config.learning_rate * warmup_cosine(step - 1, config.steps, config.warmup_steps)
        )
        chosen = torch.randint(len(train.letter), (config.batch,), generator=random)
        hearing.train()
        loss = _loss(config, hearing, train, chosen, world, random)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % config.log_every == 0:
            reporter.metrics(step, {"letters": loss.item()})
        if step in config.realign_at:
            splits = {split: realigned(config, hearing, windows, world) for split, windows in splits.items()}
            train = splits["train"]
        if step % config.evaluate_every == 0 or step == config.steps:
            reporter.metrics(step, evaluate(config, hearing, splits["dev"], world))
    with appearing_whole(config.out) as partial:
        weights = model.cpu().state_dict()
        write_model(partial, "s2s", config.model, weights, parents=parents, step=config.steps)
    return config.out


def _beginning(config: HearingTrainingConfig) -> tuple[S2SModel, dict[str, str]]:
    """A model, and what its card is to say it comes from."""
    torch.manual_seed(config.seed)
    model, parents = S2SModel(config.model), ShardSet(config.tokens, "tokens", "train").manifest.parents
    named = {part: parents[part] for part in ("codec", "tokenizer")}
    if config.begin_from is not None:
        begun = read_card(config.begin_from)
        for part, digest in named.items():
            if (own := begun.parents.get(part)) != digest:
                raise CheckpointError(
                    f"begin_from: {config.begin_from} was trained with {part} {own}, the tokens were made "
                    f"with {digest}; give a model of that one"
                )
        named = {**begun.parents, **begin_(model, str(config.begin_from), "none")}
    elif config.codes_from is not None:
        begin_codes_(model, config.codes_from, named["codec"])
    return model, named


def _windows(config: HearingTrainingConfig, split: Split) -> Windows:
    tokens = ShardSet(config.tokens, "tokens", split)
    model = config.model
    sizes = Sizes(model.num_codebooks, model.codebook_size, model.text_vocab)
    return windows_of(tokens, letters_of(config.tokenizer, tokens), sizes)


def _loss(
    config: HearingTrainingConfig,
    hearing: Hearing,
    windows: Windows,
    chosen: Int[Tensor, "B"],
    world: World,
    random: torch.Generator,
) -> Float[Tensor, ""]:
    codes, lived, letter = windows.batch(chosen, hearing.window)
    B, K, W = codes.shape
    some = torch.randint(1, K + 1, (B, 1), generator=random)
    few = torch.rand(B, 1, generator=random) < config.drop_codebooks
    hidden = torch.rand(B, W, generator=random) < config.hide_frames
    heard = torch.where(few, some, K).expand(B, W).masked_fill(hidden, 0)
    codes = codes.masked_fill(torch.arange(K)[:, None] >= heard[:, None], config.model.pad_code)
    return F.cross_entropy(_letters(config, hearing, codes, lived, world), letter.to(world.device))


def _letters(
    config: HearingTrainingConfig, hearing: Hearing, codes: Tensor, lived: Tensor, world: World
) -> Float[Tensor, "B V"]:
    with autocast(world, config.bfloat16):
        return hearing.letters(hearing.last(codes.to(world.device), lived.to(world.device))).float()


@torch.no_grad()
def realigned(config: HearingTrainingConfig, hearing: Hearing, windows: Windows, world: World) -> Windows:
    """The same windows, with letters where they are heard in their words."""
    hearing.eval()
    letter = windows.letter.clone()
    alike: dict[tuple[int, int], list[WordFrames]] = defaultdict(list)
    for word in windows.words:
        if word.frames >= len(word.letters):
            alike[word.frames, len(word.letters)].append(word)
    for (frames, _), words in alike.items():
        at_once = max(1, _AT_ONCE // frames)
        for some in (words[at : at + at_once] for at in range(0, len(words), at_once)):
            firsts = torch.tensor([word.first for word in some])
            chosen = (firsts[:, None] + torch.arange(frames)).flatten()
            codes, lived, _ = windows.batch(chosen, hearing.window)
            log_probs = _letters(config, hearing, codes, lived, world).log_softmax(dim=1).cpu().numpy()
            spelled = np.array([word.letters for word in some])
            aligned = align(log_probs.reshape(len(some), frames, -1), spelled)
            letter[chosen] = torch.from_numpy(aligned).flatten()
    return windows._replace(letter=letter)


@torch.no_grad()
def evaluate(
    config: HearingTrainingConfig, hearing: Hearing, windows: Windows, world: World
) -> dict[str, float]:
    """Cross-entropy (nats) and the share of letters that are told rightly, over all of a split.

    Of letters as they lie now: placing them anew makes them easier to tell.
    """
    hearing.eval()
    nats = right = 0.0
    sounding = torch.nonzero(windows.letter != PAD).flatten()
    for chosen in sounding.split(_AT_ONCE):
        codes, lived, letter = windows.batch(chosen, hearing.window)
        logits = _letters(config, hearing, codes, lived, world).cpu()
        nats += F.cross_entropy(logits, letter, reduction="sum").item()
        right += (logits.argmax(dim=1) == letter).sum().item()
    count = len(sounding)
    return {"dev_letters": nats / count, "dev_letters_right": right / count}


@exits_cleanly
def main() -> None:
    """Train on this machine."""
    config = from_command_line(HearingTrainingConfig, __doc__ or "")
    to_stderr()
    run(config, ConsoleReporter(current_world()))


if __name__ == "__main__":
    main()
