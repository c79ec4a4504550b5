"""Trains the S2S model on tokens: plain torch, alone, under torchrun, or under Ray Train.

    python -m paluku.training.s2s_loop CONFIG.yaml [key=value ...]

What is evaluated and saved is the moving average of the weights.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from paluku.config import from_command_line
from paluku.corpus.shards import ShardSet, Split, read_manifest
from paluku.errors import CheckpointError, exits_cleanly
from paluku.log import logger, to_stderr
from paluku.registry.artefact import read_card
from paluku.s2s.conditioning import ConditionRows
from paluku.s2s.losses import Tally, Targets, stream_names, tally, targets, total
from paluku.s2s.model import S2SModel
from paluku.tokens.sources import joint_hash, made_with
from paluku.training import checkpoint
from paluku.training.average import WeightAverage
from paluku.training.console import ConsoleReporter
from paluku.training.optim import check_finite, decayed_groups
from paluku.training.ports import Reporter
from paluku.training.s2s_adapter import adapt_, merged
from paluku.training.s2s_begin import begin_, begin_codes_
from paluku.training.s2s_config import S2STrainingConfig
from paluku.training.s2s_data import Ahead, Feed, Pass
from paluku.training.s2s_parallel import (
    autocast,
    gathered,
    let_go_,
    optimiser_state,
    passing,
    restore_optimiser_,
    scattered,
    spread,
    whole,
)
from paluku.training.schedule import set_learning_rate, warmup_cosine
from paluku.training.world import World, current_world, joined, sum_over_world

log = logger("training")

BETAS = 0.9, 0.95  # Moshi, section 4.5


@dataclass
class TrainState:
    """Everything a step changes, and what it needs to change it."""

    config: S2STrainingConfig
    world: World
    model: S2SModel  # with its adapters; where it is sharded, this worker's part
    parallel: nn.Module  # what is called in training
    average: WeightAverage
    optimiser: torch.optim.Optimizer
    parents: dict[str, str]  # hashes of what it began from
    step: int = 0  # steps done


def build(config: S2STrainingConfig, world: World, *, resumes: bool = False) -> TrainState:
    """A fresh state, the same on every worker.

    What it `resumes` from has the weights and voices it once began from: they need not be there any more.
    """
    torch.manual_seed(config.seed)
    model = S2SModel(config.model)
    parents = {} if resumes else begin_(model, config.begin_from, config.speakers)
    if config.codes_from is not None and not resumes:
        begin_codes_(model, config.codes_from, parents_of(_tokens(config, "train"))["codec"])
    model.temporal.drop(config.dropout)
    if model.hearing is not None:
        model.hearing.freeze()
    if config.lora is not None:
        adapt_(model, config.lora)
    parallel = spread(model, world, config.parallel, config.bfloat16)
    average = WeightAverage(model, config.average_decay)
    return TrainState(config, world, model, parallel, average, _optimiser(model, config), parents)


def _optimiser(model: nn.Module, config: S2STrainingConfig) -> torch.optim.Optimizer:
    groups = decayed_groups(model, config.weight_decay)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=BETAS, fused=config.parallel == "ddp")


def step(state: TrainState, passes: Sequence[Pass]) -> dict[str, Tensor]:
    """One update from one or more passes; the losses before it, of all workers, as scalars.

    Raises:
        TrainingError: when the gradient is not finite; weights are left as they were.
    """
    state.model.train()
    # What is dropped is drawn anew in each step, and the same when a run that was stopped does it again.
    torch.manual_seed(
        int(np.random.SeedSequence((state.config.seed, state.step, state.world.rank)).generate_state(1)[0])
    )
    asked = [_targets(state, each) for each in passes]
    # A mean over all answers of the step, however unevenly they fall on passes and workers: what they
    # count together is known before the first of them is given.
    shared = sum_over_world(torch.stack([each.total_weights() for each in asked]).sum(dim=0), state.world)
    state.optimiser.zero_grad()
    tallies = [
        _backward(state, each, wanted, shared, is_last=number == len(passes) - 1)
        for number, (each, wanted) in enumerate(zip(passes, asked, strict=True))
    ]
    sums = sum_over_world(torch.stack(tallies).sum(dim=0), state.world)
    loss = _total(state, sums[0] / shared.clamp(min=1e-9))
    norm = _descend(state, loss)
    state.average.update(state.model)
    state.step += 1
    return {"loss": loss, "gradient_norm": norm, **_metrics(state, Tally(*sums))}


def _targets(state: TrainState, each: Pass) -> Targets:
    model, weights = state.config.model, state.config.weights
    own = state.model.delayed(each.tokens.agent_codes, each.tokens.document)
    return targets(
        each.tokens,
        own,
        each.depth_at,
        model.codebook_size,
        weights,
        user_text=model.user_text,
    )


def _tally(state: TrainState, model: nn.Module, each: Pass, asked: Targets) -> Tally:
    tokens = each.tokens
    speaker = state.model.conditioning.voices[tokens.voice]
    rows = ConditionRows(speaker, tokens.style, each.has_speaker, each.has_style)
    with autocast(state.world, state.config.bfloat16):
        logits = model(
            tokens.agent_codes,
            tokens.user_codes,
            tokens.text,
            tokens.document,
            rows,
            each.depth_at,
            state.config.recompute and model.training,
            tokens.user_text,
            each.sees_own,
        )
        return tally(logits, asked)


def _backward(
    state: TrainState, each: Pass, asked: Targets, shared: Float[Tensor, "N"], *, is_last: bool
) -> Float[Tensor, "5 N"]:
    """Adds a pass's gradient; its tally."""
    with passing(state.parallel, is_last):
        found = _tally(state, state.parallel, each, asked)
        # Gradients are averaged over the workers: the sum is wanted.
        means = state.world.size * found.loss / shared.clamp(min=1e-9)
        _total(state, means).backward()
    return torch.stack([part.detach() for part in found])


def _total(state: TrainState, means: Float[Tensor, "N"]) -> Float[Tensor, ""]:
    return total(means, state.config.weights, state.config.model.num_codebooks)


def _descend(state: TrainState, loss: Tensor) -> Tensor:
    """Clip, step; the gradient's norm before clipping."""
    config = state.config
    set_learning_rate(
        state.optimiser, config.learning_rate * warmup_cosine(state.step, config.steps, config.warmup_steps)
    )
    # After the all-reduce the norm is the same everywhere: all workers stop, or none.
    norm = whole(nn.utils.clip_grad_norm_(state.model.parameters(), config.max_gradient_norm))
    check_finite(norm, state.step + 1, {"loss": loss})
    state.optimiser.step()
    return norm


def _metrics(state: TrainState, sums: Tally) -> dict[str, Tensor]:
    """Of each stream cross-entropy (nats) and the share of right tokens, of text where there is any."""
    model = state.config.model
    names = stream_names(model.num_codebooks, model.user_text)
    nats = dict(zip(names, sums.nats / sums.answers.clamp(min=1), strict=True))
    right = dict(zip(names, sums.right / sums.judged.clamp(min=1), strict=True))
    codes = [value for name, value in nats.items() if name.startswith("codes_")]
    return {
        **nats,
        "codes": torch.stack(codes).mean(),
        **{f"{name}_right": value for name, value in right.items()},
        "frames": sums.answers[0],
        "global_tokens": sums.answers.sum(),
    }


def run(config: S2STrainingConfig, reporter: Reporter, resume: Path | None = None) -> Path:
    """Train to the end, from the start or from a checkpoint; the last checkpoint's folder.

    Every worker calls this. Rank 0 writes `config.out/step-NNNNNN`.

    Raises:
        CorpusError: when the tokens are not whole, have no train or dev split, do not fit the model, or have
            no turns to exchange where that is asked for.
        CheckpointError: when `resume` or `begin_from` is damaged or of another configuration, codec or
            tokenizer, `asks_from` of another codec or tokenizer, or the speakers are not there.
        ConfigError: when `lora` or `parallel` asks for what is not here.
        StorageError: when `config.out` cannot be written.
        TrainingError: when the loss diverges.
    """
    world = current_world()
    train, dev = (Feed(config, _tokens(config, split), world) for split in ("train", "dev"))
    log.info("rows=%d filled=%.3f of %d frames", len(train), train.fill, config.width)
    state = build(config, world, resumes=resume is not None)
    parents = parents_of(train.tokens, config.asks_from)
    if resume is not None:
        restore_(state, resume, parents)
    folder = None
    pace = Pace(state)
    with Ahead(train.step, config.steps - 1) as read:
        while state.step < config.steps:
            losses = step(state, [each.to(world.device) for each in read(state.step)])
            pace.count(losses)
            if _due(state, config.log_every):
                reporter.metrics(state.step, _numbers(losses) | pace.metrics(state))
            if _due(state, config.evaluate_every):
                reporter.metrics(state.step, evaluate(state, dev))
            if _due(state, config.checkpoint_every):
                folder = save(state, reporter, parents)
    return folder or save(state, reporter, parents)


def _tokens(config: S2STrainingConfig, split: Split) -> ShardSet:
    return ShardSet(config.tokens, "tokens", split)


def _due(state: TrainState, every: int) -> bool:
    return state.step % every == 0 or state.step == state.config.steps


def _numbers(values: Mapping[str, Tensor]) -> dict[str, float]:
    """In one transfer from the device."""
    return dict(zip(values, torch.stack([v.float() for v in values.values()]).tolist(), strict=True))


class Pace:
    """How fast a run goes, in frames of dialogues (a row's empty end is none)."""

    def __init__(self, state: TrainState) -> None:
        self._frames = torch.zeros((), device=state.world.device)
        self._at = time.monotonic()

    def count(self, losses: Mapping[str, Tensor]) -> None:
        """A step is done. Nothing here waits for a GPU."""
        self._frames += losses["frames"]

    def metrics(self, state: TrainState) -> dict[str, float]:
        """Since the last call: frames per second, of all workers; and the learning rate now."""
        frames, elapsed = self._frames.item(), time.monotonic() - self._at
        self._frames, self._at = torch.zeros_like(self._frames), time.monotonic()
        return {
            "frames_per_s": frames / max(elapsed, 1e-9),
            "learning_rate": state.optimiser.param_groups[0]["lr"],
        }


@torch.no_grad()
def evaluate(state: TrainState, dev: Feed) -> dict[str, float]:
    """The averaged model over the beginnings of dev dialogues, the same at every evaluation.

    Cross-entropy (nats, every frame alike), perplexity and share of right tokens of each stream.
    """
    state.model.eval()
    with state.average.averaged(state.model):
        tallies = list(_tallies(state, dev))
    let_go_(state.model)
    sums = Tally(*sum_over_world(torch.stack(tallies).sum(dim=0), state.world))
    values = _numbers(_metrics(state, sums))
    del values["frames"], values["global_tokens"]
    nats = {name: value for name, value in values.items() if not name.endswith("_right")}
    loss = _total(state, sums.nats / sums.answers.clamp(min=1))
    return {
        "dev_loss": float(loss),
        **{f"dev_{name}": value for name, value in values.items()},
        **{f"dev_{name}_perplexity": math.exp(value) for name, value in nats.items()},
    }


def _tallies(state: TrainState, dev: Feed) -> Iterator[Float[Tensor, "5 N"]]:
    for each, counts in dev.beginnings():
        here = each.to(state.world.device)
        # Not through DDP, whose forward is for training.
        yield torch.stack(_tally(state, state.model, here, _targets(state, here))) * counts


def save(state: TrainState, reporter: Reporter, parents: Mapping[str, str]) -> Path:
    """Rank 0 writes `out/step-NNNNNN`; every rank reports it. Raises `StorageError`."""
    folder = checkpoint.folder_of(state.config.out, state.step)
    weights, training = _served(state), _training_state(state)
    if state.world.is_main:
        checkpoint.save(
            folder,
            "s2s",
            state.config.model,
            weights,
            training,
            step=state.step,
            run_id=reporter.run_id,
            parents={**state.parents, **parents},
        )
    reporter.checkpoint(folder if state.world.is_main else None, state.step)
    if state.world.is_main:
        checkpoint.prune(state.config.out)
    return folder


def _served(state: TrainState) -> dict[str, Tensor]:
    """The averaged weights of a plain `S2SModel`: whole, and with the adapters merged."""
    weights = gathered(state.average.weights)
    return weights if state.config.lora is None else merged(weights, state.config.lora)


def _training_state(state: TrainState) -> dict[str, Any]:
    """What is needed to go on, beside what is served. Whole: it can go on with other numbers of workers."""
    average = state.average.state_dict()
    return {
        "weights": gathered(state.model.state_dict()),
        "average": average | {"weights": gathered(average["weights"])},
        "optimiser": optimiser_state(state.model, state.optimiser),
    }


def parents_of(tokens: ShardSet, asks_from: Sequence[str | Path] = ()) -> Mapping[str, str]:
    """What a model trained on these tokens names in its card: the tokens, their codec, their tokenizer.

    And, by one hash, those its users' turns are taken from besides.
    """
    parents = {"tokens": tokens.manifest.hash, **made_with(tokens.manifest)}
    if not asks_from:
        return parents
    return {**parents, "asks": joint_hash(read_manifest(folder, "tokens") for folder in asks_from)}


def restore_(state: TrainState, folder: Path, parents: Mapping[str, str]) -> None:
    """Bring a fresh state to where a checkpoint was, in place. Raises `CheckpointError`."""
    had, has = "asks" in read_card(folder).parents, "asks" in parents
    if has and not had:
        raise CheckpointError(f"{folder} was trained without asks_from; leave it out, or begin a new run")
    if had and not has:
        raise CheckpointError(f"{folder} was trained with asks_from; give it the folders it began with")
    card, _, training = checkpoint.restore(folder, "s2s", state.config.model, parents)
    own = state.model.state_dict()
    average = training["average"]
    if other := sorted(own.keys() ^ training["weights"].keys()):
        raise CheckpointError(
            f"{folder} was made with another `lora` (it differs in {other[0]}); use the same"
        )
    state.model.load_state_dict(scattered(training["weights"], own))
    state.average.load_state_dict(average | {"weights": scattered(average["weights"], own)})
    restore_optimiser_(state.model, state.optimiser, training["optimiser"])
    state.parents = card.parents
    state.step = card.step


@exits_cleanly
def main() -> None:
    """Train without Ray; a run that was stopped goes on from the newest checkpoint in `out`."""
    config = from_command_line(S2STrainingConfig, __doc__ or "")
    to_stderr()
    with joined() as world:
        run(config, ConsoleReporter(world), checkpoint.newest(config.out))


if __name__ == "__main__":
    main()
