"""Trains a speaker encoder: plain torch, alone, under torchrun, or under Ray Train.

    python -m paluku.training.speaker_loop CONFIG.yaml [key=value ...]

It learns to tell the training speakers from each other with an angular margin; it is judged by the equal
error rate on speakers of another split (`evaluate_split`), whom it has never heard. What is evaluated and
shipped is the moving average of the encoder's weights.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from paluku.config import from_command_line
from paluku.corpus.columns import columns
from paluku.corpus.shards import ShardSet
from paluku.errors import CheckpointError, CorpusError, exits_cleanly
from paluku.log import to_stderr
from paluku.speakers.encoder import SpeakerEncoder
from paluku.speakers.losses import AngularMarginSoftmax, Told
from paluku.speakers.verification import draw_pairs, verify
from paluku.training import checkpoint
from paluku.training.average import WeightAverage
from paluku.training.console import ConsoleReporter
from paluku.training.optim import BROKEN_AUDIO, check_finite, decayed_groups
from paluku.training.ports import Reporter
from paluku.training.schedule import set_learning_rate, warmup_cosine
from paluku.training.speaker_config import SpeakerTrainingConfig
from paluku.training.speaker_crops import Recordings, SpeakerBatch, SpeakerCrops
from paluku.training.world import World, current_world, distribute, joined, mean_over_world, sum_over_world


class SpeakerClassifier(nn.Module):
    """The encoder and the softmax over the training speakers, which nobody needs afterwards."""

    def __init__(self, config: SpeakerTrainingConfig, num_speakers: int) -> None:
        super().__init__()
        self.encoder = SpeakerEncoder(config.model)
        self.softmax = AngularMarginSoftmax(config.model.dim, num_speakers, config.scale)

    def forward(self, batch: SpeakerBatch, margin: float) -> Told:
        """The loss and the accuracy."""
        return self.softmax(self.encoder(batch.wave), batch.speaker, margin)


@dataclass
class TrainState:
    """Everything a step changes, and what it needs to change it."""

    config: SpeakerTrainingConfig
    world: World
    classifier: SpeakerClassifier
    parallel: nn.Module  # the classifier, in DDP when there are several workers
    average: WeightAverage  # of the encoder
    optimiser: torch.optim.Optimizer
    step: int = 0  # steps done


def build(config: SpeakerTrainingConfig, world: World, num_speakers: int) -> TrainState:
    """A fresh state, the same on every worker."""
    torch.manual_seed(config.seed)
    classifier = SpeakerClassifier(config, num_speakers)
    parallel = distribute(classifier, world)
    groups = decayed_groups(classifier, config.weight_decay)
    optimiser = torch.optim.AdamW(groups, lr=config.learning_rate)
    average = WeightAverage(classifier.encoder, config.average_decay)
    return TrainState(config, world, classifier, parallel, average, optimiser)


def step(state: TrainState, batch: SpeakerBatch) -> dict[str, Tensor]:
    """One update; loss and accuracy before it, as scalars.

    Raises:
        TrainingError: when the gradient is not finite; weights are left as they were.
    """
    state.classifier.train()
    told: Told = state.parallel(batch, state.config.margin_at(state.step))
    norm = _descend(state, told.loss)
    state.average.update(state.classifier.encoder)
    state.step += 1
    return {"loss": told.loss.detach(), "accuracy": told.accuracy, "gradient_norm": norm}


def _descend(state: TrainState, loss: Tensor) -> Tensor:
    """Back-propagate, clip, step; the gradient's norm before clipping."""
    config = state.config
    share = warmup_cosine(state.step, config.steps, config.warmup_steps)
    set_learning_rate(state.optimiser, share * config.learning_rate)
    state.optimiser.zero_grad()
    loss.backward()
    # After DDP's all-reduce the norm is the same everywhere: all workers stop, or none.
    norm = nn.utils.clip_grad_norm_(state.classifier.parameters(), config.max_gradient_norm)
    check_finite(norm, state.step + 1, {"loss": loss}, BROKEN_AUDIO)
    state.optimiser.step()
    return norm


def run(config: SpeakerTrainingConfig, reporter: Reporter, resume: Path | None = None) -> Path:
    """Train to the end, from the start or from a checkpoint; the last checkpoint's folder.

    Every worker calls this. Rank 0 writes `config.out/step-NNNNNN`.

    Raises:
        CorpusError: when the corpus is not whole, lacks a split, or there is nothing to compare in it.
        CheckpointError: when `resume` is damaged, of another configuration or of other speakers.
        StorageError: when `config.out` cannot be written.
        TrainingError: when the loss diverges.
    """
    train = SpeakerCrops(ShardSet(config.corpus, "utterances", "train"), config)
    unseen = Unseen(ShardSet(config.corpus, "utterances", config.evaluate_split), config)
    state = build(config, current_world(), train.num_speakers)
    parents = {"corpus": train.utterances.manifest.hash}
    if resume is not None:
        restore_(state, resume, parents)
    folder = None
    pace = Pace(state)
    while state.step < config.steps:
        losses = step(state, train.batch(state.step, state.world).to(state.world.device))
        if _due(state, config.log_every):
            reporter.metrics(state.step, mean_over_world(losses, state.world) | pace.metrics(state))
        if _due(state, config.evaluate_every):
            reporter.metrics(state.step, evaluate(state, unseen))
        if _due(state, config.checkpoint_every):
            folder = save(state, reporter, parents)
    return folder or save(state, reporter, parents)


def _due(state: TrainState, every: int) -> bool:
    return state.step % every == 0 or state.step == state.config.steps


class Unseen:
    """Pairs of utterances whose speakers are not trained on; the same ones at every evaluation."""

    def __init__(self, utterances: ShardSet, config: SpeakerTrainingConfig) -> None:
        """Draws the pairs. Raises `CorpusError` when there are none of one kind."""
        speakers = [(source, speaker) for source, speaker in columns(utterances, "source", "speaker")]
        drawn = draw_pairs(speakers, config.evaluate_pairs, config.seed)
        if not drawn.same.any() or drawn.same.all():
            raise CorpusError(
                f"{utterances.folder}: split {utterances.split!r} has no source with two speakers and two "
                "utterances of one; build it with a larger share for it"
            )
        self._rows, self.pairs = drawn.renumbered()
        self.num_speakers = len({speakers[row] for row in self._rows})
        self._rate_hz = config.model.mel.sample_rate_hz
        self._most = round(config.evaluate_s * self._rate_hz)
        self._recordings = Recordings(utterances, self._rate_hz, 0)

    def vectors(self, encoder: SpeakerEncoder, world: World) -> Float[Tensor, "N E"]:
        """Of all utterances in the pairs, which are dealt out to the workers."""
        found = torch.zeros(len(self._rows), encoder.dim, device=world.device)
        for place in range(world.rank, len(self._rows), world.size):
            wave = self._recordings.wave(self._rows[place])[: self._most]
            whole = np.resize(wave, max(len(wave), self._rate_hz // 5))
            found[place] = encoder(torch.from_numpy(whole)[None, None].to(world.device))[0]
        return sum_over_world(found, world)


@torch.no_grad()
def evaluate(state: TrainState, unseen: Unseen) -> dict[str, float]:
    """The averaged encoder on unseen speakers: equal error rate, and mean cosines of both kinds of pairs."""
    encoder = state.classifier.encoder.eval()
    with state.average.averaged(encoder):
        vectors = unseen.vectors(encoder, state.world).cpu().numpy()
    first, second, same = unseen.pairs
    cosines = (vectors[first] * vectors[second]).sum(axis=1)
    verified = verify(cosines, same)
    return {
        "unseen_equal_error_rate": verified.equal_error_rate,
        "unseen_threshold": verified.threshold,
        "unseen_cosine_same": float(cosines[same].mean()),
        "unseen_cosine_other": float(cosines[~same].mean()),
        "unseen_speakers": float(unseen.num_speakers),
    }


class Pace:
    """How fast a run goes."""

    def __init__(self, state: TrainState) -> None:
        self._step, self._at = state.step, time.monotonic()

    def metrics(self, state: TrainState) -> dict[str, float]:
        """Since the last call: crops per second and worker; and margin and learning rate now."""
        config = state.config
        steps, elapsed = state.step - self._step, time.monotonic() - self._at
        self._step, self._at = state.step, time.monotonic()
        return {
            "crops_per_s": steps * config.batch * config.utterances_per_speaker / max(elapsed, 1e-9),
            "margin": config.margin_at(state.step - 1),
            "learning_rate": state.optimiser.param_groups[0]["lr"],
        }


def save(state: TrainState, reporter: Reporter, parents: Mapping[str, str]) -> Path:
    """Rank 0 writes `out/step-NNNNNN`; every rank reports it. Raises `StorageError`."""
    folder = checkpoint.folder_of(state.config.out, state.step)
    if state.world.is_main:
        training = {
            "weights": state.classifier.state_dict(),
            "average": state.average.state_dict(),
            "optimiser": state.optimiser.state_dict(),
        }
        served = state.average.weights
        about = {"step": state.step, "run_id": reporter.run_id, "parents": parents}
        checkpoint.save(folder, "speakers", state.config.model, served, training, **about)
    reporter.checkpoint(folder if state.world.is_main else None, state.step)
    if state.world.is_main:
        checkpoint.prune(state.config.out)
    return folder


def restore_(state: TrainState, folder: Path, parents: Mapping[str, str]) -> None:
    """Bring a fresh state to where a checkpoint was, in place. Raises `CheckpointError`."""
    card, _, training = checkpoint.restore(folder, "speakers", state.config.model, parents)
    there, here = (len(w["softmax.centres"]) for w in (training["weights"], state.classifier.state_dict()))
    if there != here:
        raise CheckpointError(
            f"{folder} was trained on {there} speakers, not {here}; give it the speeds it began with, "
            "or another folder for a new run"
        )
    state.classifier.load_state_dict(training["weights"])
    state.average.load_state_dict(training["average"])
    state.optimiser.load_state_dict(training["optimiser"])
    state.step = card.step


@exits_cleanly
def main() -> None:
    """Train without Ray; a run that was stopped goes on from the newest checkpoint in `out`."""
    config = from_command_line(SpeakerTrainingConfig, __doc__ or "")
    to_stderr()
    with joined() as world:
        run(config, ConsoleReporter(world), checkpoint.newest(config.out))


if __name__ == "__main__":
    main()
