"""Trains the S2S model on tokens: plain torch, alone, under torchrun, or under Ray Train.

python -m paluku.training.s2s_loop CONFIG.yaml [key=value ...]
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from paluku.config import AbsolutePath, Config, from_command_line
from paluku.corpus.shards import ShardSet, Split
from paluku.errors import TrainingError, exits_cleanly
from paluku.log import to_stderr
from paluku.s2s.losses import StreamSums, stream_names, stream_sums, total
from paluku.s2s.model import S2SConfig, S2SModel
from paluku.tokens.batches import Sizes, TokenBatch, crop_starts, token_batch
from paluku.training import checkpoint
from paluku.training.console import ConsoleReporter
from paluku.training.ports import Reporter
from paluku.training.sampler import batch_indices
from paluku.training.schedule import set_learning_rate, warmup_cosine
from paluku.training.world import World, current_world, distribute, joined, mean_over_world, sum_over_world


class S2STrainingConfig(Config):
    """One run. `batch` is per worker; steps are counted from 1 in everything that is written."""

    tokens: AbsolutePath  # folder of tokens (paluku.corpus.shards)
    out: AbsolutePath  # checkpoints come here
    model: S2SConfig = S2SConfig()
    text_weight: float = Field(default=1.0, ge=0)
    steps: int = Field(default=1000, ge=1)
    batch: int = Field(default=8, ge=1)
    max_frames: int = Field(default=250, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=0.1, ge=0)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    seed: int = Field(default=0, ge=0)
    log_every: int = Field(default=20, ge=1)
    evaluate_every: int = Field(default=250, ge=1)
    evaluate_batches: int = Field(default=4, ge=1)  # of the dev split
    checkpoint_every: int = Field(default=250, ge=1)

    @property
    def sizes(self) -> Sizes:
        """What the tokens must fit."""
        return Sizes(self.model.num_codebooks, self.model.codebook_size, self.model.text_vocab)


@dataclass
class TrainState:
    """Everything a step changes, and what it needs to change it."""

    config: S2STrainingConfig
    world: World
    model: S2SModel
    parallel: nn.Module  # the model, in DDP when there are several workers
    optimiser: torch.optim.Optimizer
    step: int = 0  # steps done


def build(config: S2STrainingConfig, world: World) -> TrainState:
    """A fresh state, the same on every worker."""
    torch.manual_seed(config.seed)
    model = S2SModel(config.model)
    parallel = distribute(model, world)
    # Norms and other vectors are not decayed: towards 0 they would mute their layer, not simplify it.
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    vectors = [weight for weight in model.parameters() if weight.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))
    return TrainState(config, world, model, parallel, optimiser)


def step(state: TrainState, batch: TokenBatch) -> dict[str, Tensor]:
    """One update; the losses before it, as scalars whose mean over the workers is the whole batch's.

    Raises:
        TrainingError: when the gradient is not finite; weights are left as they were.
    """
    state.model.train()
    sums, counts = _stream_sums(state, state.parallel, batch)
    # Each worker divides by the workers' mean count, so that DDP's mean of gradients is the gradient
    # of the mean over all tokens, however unevenly they fall on the workers.
    shared = sum_over_world(counts, state.world) / state.world.size
    means = sums / shared.clamp(min=1 / state.world.size)
    loss = total(means, state.config.text_weight)
    _descend(state, loss)
    state.step += 1
    names = stream_names(state.config.model.num_codebooks)
    return {"loss": loss.detach(), **dict(zip(names, means.detach().unbind(), strict=True))}


def _stream_sums(state: TrainState, model: nn.Module, batch: TokenBatch) -> StreamSums:
    agent_codes, user_codes, text, voice, style, valid = batch
    logits = model(agent_codes, user_codes, text, voice, style)
    return stream_sums(logits, text, state.model.delayed(agent_codes), valid)


def _descend(state: TrainState, loss: Tensor) -> None:
    config = state.config
    share = warmup_cosine(state.step, config.steps, config.warmup_steps)
    set_learning_rate(state.optimiser, share * config.learning_rate)
    state.optimiser.zero_grad()
    loss.backward()
    # After DDP's all-reduce the norm is the same everywhere: all workers stop, or none.
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), config.max_gradient_norm)
    if not torch.isfinite(norm):
        raise TrainingError(
            f"step {state.step + 1}: the gradient is {norm.item()} (loss {loss.item():.4g}); "
            "lower learning_rate and resume from the last checkpoint"
        )
    state.optimiser.step()


def run(config: S2STrainingConfig, reporter: Reporter, resume: Path | None = None) -> Path:
    """Train to the end, from the start or from a checkpoint; the last checkpoint's folder.

    Every worker calls this. Rank 0 writes `config.out/step-NNNNNN`.

    Raises:
        CorpusError: when the tokens are not whole, have no train or dev split, or do not fit the model.
        CheckpointError: when `resume` is damaged, of another configuration, codec or tokenizer.
        StorageError: when `config.out` cannot be written.
        TrainingError: when the loss diverges.
    """
    train, dev = _open(config, "train"), _open(config, "dev")
    state = build(config, current_world())
    if resume is not None:
        restore_(state, resume, train)
    folder = None
    pace = Pace(state)
    while state.step < config.steps:
        losses = step(state, next_batch(state, train))
        if _due(state, config.log_every):
            reporter.metrics(state.step, mean_over_world(losses, state.world) | pace.metrics(state))
        if _due(state, config.evaluate_every):
            reporter.metrics(state.step, evaluate(state, dev))
        if _due(state, config.checkpoint_every):
            folder = save(state, reporter, train)
    return folder or save(state, reporter, train)


def _open(config: S2STrainingConfig, split: Split) -> ShardSet:
    return ShardSet(config.tokens, "tokens", split)


def _due(state: TrainState, every: int) -> bool:
    return state.step % every == 0 or state.step == state.config.steps


def next_batch(state: TrainState, train: ShardSet) -> TokenBatch:
    """This worker's random crops in the state's next step, a pure function of the seed and the step."""
    config, world = state.config, state.world
    indices = batch_indices(len(train), config.seed, state.step, config.batch, world.rank, world.size)
    rows = train.rows(indices)
    first = (state.step * world.size + world.rank) * config.batch
    starts = crop_starts(rows, config.max_frames, config.seed, first)
    return token_batch(rows, starts, config.max_frames, config.sizes).to(world.device)


class Pace:
    """How fast a run goes."""

    def __init__(self, state: TrainState) -> None:
        self._step, self._at = state.step, time.monotonic()

    def metrics(self, state: TrainState) -> dict[str, float]:
        """Since the last call: frames per second and worker; and the learning rate now."""
        steps, elapsed = state.step - self._step, time.monotonic() - self._at
        self._step, self._at = state.step, time.monotonic()
        return {
            "frames_per_s": steps * state.config.batch * state.config.max_frames / max(elapsed, 1e-9),
            "learning_rate": state.optimiser.param_groups[0]["lr"],
        }


@torch.no_grad()
def evaluate(state: TrainState, dev: ShardSet) -> dict[str, float]:
    """Cross-entropy (nats) and perplexity of each stream over the beginnings of dev dialogues.

    Up to `evaluate_batches` batches, dealt out to the workers; the same rows at every evaluation.
    """
    state.model.eval()
    config, world = state.config, state.world
    names = stream_names(config.model.num_codebooks)
    sums = torch.zeros(2, len(names), device=world.device)
    rows = range(min(len(dev), config.evaluate_batches * config.batch * world.size))
    mine = list(rows)[world.rank :: world.size]
    for first in range(0, len(mine), config.batch):
        chosen = dev.rows(mine[first : first + config.batch])
        batch = token_batch(chosen, [0] * len(chosen), config.max_frames, config.sizes)
        # Not through DDP, whose forward waits for the others: workers may have unequal numbers of batches.
        sums += torch.stack(_stream_sums(state, state.model, batch.to(world.device)))
    nats, counts = sum_over_world(sums, world)
    means = nats / counts.clamp(min=1)
    values = dict(zip(names, means.tolist(), strict=True))
    return {
        "dev_loss": float(total(means, config.text_weight)),
        **{f"dev_{name}": value for name, value in values.items()},
        **{f"dev_{name}_perplexity": math.exp(value) for name, value in values.items()},
    }


def save(state: TrainState, reporter: Reporter, tokens: ShardSet) -> Path:
    """Rank 0 writes `out/step-NNNNNN`; every rank reports it. Raises `StorageError`."""
    folder = checkpoint.folder_of(state.config.out, state.step)
    if state.world.is_main:
        checkpoint.save(
            folder,
            "s2s",
            state.config.model,
            state.model.state_dict(),
            {"optimiser": state.optimiser.state_dict()},
            step=state.step,
            run_id=reporter.run_id,
            parents=parents_of(tokens),
        )
    reporter.checkpoint(folder if state.world.is_main else None, state.step)
    if state.world.is_main:
        checkpoint.prune(state.config.out)
    return folder


def parents_of(tokens: ShardSet) -> Mapping[str, str]:
    """What a model trained on these tokens names in its card: the tokens, their codec, their tokenizer."""
    manifest = tokens.manifest
    return {"tokens": manifest.hash, **{part: manifest.parents[part] for part in ("codec", "tokenizer")}}


def restore_(state: TrainState, folder: Path, tokens: ShardSet) -> None:
    """Bring a fresh state to where a checkpoint was, in place. Raises `CheckpointError`."""
    card, weights, training = checkpoint.restore(folder, "s2s", state.config.model, parents_of(tokens))
    state.model.load_state_dict(weights)
    state.optimiser.load_state_dict(training["optimiser"])
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
