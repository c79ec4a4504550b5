"""Trains the native codec: plain torch, alone, under torchrun, or under Ray Train.

    python -m paluku.training.codec_loop CONFIG.yaml [key=value ...]

For the first steps the latents stay unquantised; then k-means sets the codebooks, which follow the data
from there on. There is no average of the weights here: the learning rate ends near zero instead.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from paluku.audio import write_wav
from paluku.codec.losses import MultiScaleMelLoss, noise_to_signal, si_sdr_db
from paluku.codec.native import NativeCodec, NativeCodecConfig
from paluku.codec.quantizer import histogram, perplexity, share_used
from paluku.config import AbsolutePath, Config, from_command_line
from paluku.corpus.shards import ShardSet, Split
from paluku.errors import TrainingError, exits_cleanly
from paluku.log import to_stderr
from paluku.shapes import MonoWave
from paluku.training import checkpoint, pictures
from paluku.training.console import ConsoleReporter
from paluku.training.crops import CropBatch, Crops
from paluku.training.ports import Reporter
from paluku.training.schedule import set_learning_rate, warmup_cosine
from paluku.training.world import World, current_world, distribute, joined, mean_over_world, sum_over_world


class LossWeights(Config):
    """What each loss counts."""

    wave: float = 1.0
    mel: float = 1.0
    commitment: float = 0.25


class CodecTrainingConfig(Config):
    """One run. `batch` is per worker; steps are counted from 1 in everything that is written."""

    corpus: AbsolutePath  # folder of utterances (paluku.corpus.shards)
    out: AbsolutePath  # checkpoints and samples come here
    model: NativeCodecConfig = NativeCodecConfig()
    weights: LossWeights = LossWeights()
    steps: int = Field(default=2000, ge=1)
    batch: int = Field(default=16, ge=1)
    crop_s: float = Field(default=1.0, gt=0)
    learning_rate: float = Field(default=3e-3, gt=0)
    warmup_steps: int = Field(default=20, ge=0)
    quantise_after_steps: int = Field(default=50, ge=0)
    max_gradient_norm: float = Field(default=5.0, gt=0)
    seed: int = Field(default=0, ge=0)
    log_every: int = Field(default=20, ge=1)
    evaluate_every: int = Field(default=500, ge=1)
    evaluate_clips: int = Field(default=8, ge=1)  # per worker
    evaluate_s: float = Field(default=4.0, gt=0)
    checkpoint_every: int = Field(default=500, ge=1)

    @model_validator(mode="after")
    def _quantises(self) -> "CodecTrainingConfig":
        if self.quantise_after_steps >= self.steps:
            raise ValueError(
                f"quantise_after_steps is {self.quantise_after_steps}, steps {self.steps}: "
                "the codebooks would never be learned; give more steps"
            )
        return self


@dataclass
class TrainState:
    """Everything a step changes, and what it needs to change it."""

    config: CodecTrainingConfig
    world: World
    codec: NativeCodec
    parallel: nn.Module  # the codec, in DDP when there are several workers
    optimiser: torch.optim.Optimizer
    mel_loss: MultiScaleMelLoss
    step: int = 0  # steps done


def build(config: CodecTrainingConfig, world: World) -> TrainState:
    """A fresh state, the same on every worker."""
    torch.manual_seed(config.seed)
    codec = NativeCodec(config.model)
    parallel = distribute(codec, world)
    learned = [weight for weight in codec.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=config.learning_rate, betas=(0.8, 0.99))
    mel_loss = MultiScaleMelLoss(config.model.sample_rate_hz).to(world.device)
    return TrainState(config, world, codec, parallel, optimiser, mel_loss)


def step(state: TrainState, batch: CropBatch) -> dict[str, Tensor]:
    """One update of weights and codebooks; the losses before it, as scalars.

    Raises:
        TrainingError: when the gradient is not finite; weights are left as they were.
    """
    config, codec = state.config, state.codec
    codec.train()
    if state.step == config.quantise_after_steps:
        codec.quantizer.initialise_(codec.latents(batch.wave).detach())
    quantises = state.step >= config.quantise_after_steps
    decoded, quantized = state.parallel(batch.wave, batch.num_codebooks if quantises else None)
    losses = _reconstruction(state, decoded, batch.wave)
    if quantized is not None:
        losses["commitment"] = quantized.commitment
    weights = config.weights.model_dump()
    losses["loss"] = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
    _descend(state, losses["loss"])
    if quantized is not None:
        codec.quantizer.learn_(quantized)
    state.step += 1
    return {name: value.detach() for name, value in losses.items()}


def _reconstruction(state: TrainState, decoded: MonoWave, wave: MonoWave) -> dict[str, Tensor]:
    decoded, wave = aligned(state.codec, decoded, wave)
    return {"wave": noise_to_signal(decoded, wave), "mel": state.mel_loss(decoded, wave)}


def aligned(
    codec: NativeCodec, decoded: MonoWave, wave: MonoWave
) -> tuple[Float[Tensor, "B 1 R"], Float[Tensor, "B 1 R"]]:
    """The decoded wave and the original, both without what the codec's delay leaves unmatched."""
    delay = codec.delay_samples
    return decoded[..., delay:], wave[..., : wave.shape[-1] - delay]


def _descend(state: TrainState, loss: Tensor) -> None:
    config = state.config
    share = warmup_cosine(state.step, config.steps, config.warmup_steps)
    set_learning_rate(state.optimiser, share * config.learning_rate)
    state.optimiser.zero_grad()
    loss.backward()
    # After DDP's all-reduce the norm is the same everywhere: all workers stop, or none.
    norm = nn.utils.clip_grad_norm_(state.codec.parameters(), config.max_gradient_norm)
    if not torch.isfinite(norm):
        raise TrainingError(
            f"step {state.step + 1}: the gradient is {norm.item()} (loss {loss.detach().item():.4g}); "
            "lower learning_rate, or look for broken audio in the corpus, and resume from the last checkpoint"
        )
    state.optimiser.step()


def run(config: CodecTrainingConfig, reporter: Reporter, resume: Path | None = None) -> Path:
    """Train to the end, from the start or from a checkpoint; the last checkpoint's folder.

    Every worker calls this. Rank 0 writes `config.out/step-NNNNNN`.

    Raises:
        CorpusError: when the corpus is not whole or has no train or dev split.
        CheckpointError: when `resume` is damaged or of another model configuration.
        StorageError: when `config.out` cannot be written.
        TrainingError: when the loss diverges.
    """
    world = current_world()
    train, dev = crops(config, "train", config.crop_s), crops(config, "dev", config.evaluate_s)
    state = build(config, world)
    parents = {"corpus": train.utterances.manifest.hash}
    if resume is not None:
        restore_(state, resume, parents)
    folder = None
    pace = Pace(config, state)
    while state.step < config.steps:
        losses = step(state, train.batch(state.step, config.batch, world).to(world.device))
        if _due(state, config.log_every):
            reporter.metrics(state.step, mean_over_world(losses, world) | pace.metrics(state))
        if _due(state, config.evaluate_every):
            evaluate(state, dev, reporter)
        if _due(state, config.checkpoint_every):
            folder = save(state, reporter, parents)
    return folder or save(state, reporter, parents)


def _due(state: TrainState, every: int) -> bool:
    return state.step % every == 0 or state.step == state.config.steps


def crops(config: CodecTrainingConfig, split: Split, crop_s: float) -> Crops:
    """Crops of `crop_s`, rounded to whole frames, from one split. Raises `CorpusError`."""
    model = config.model
    frames = max(round(crop_s * model.sample_rate_hz / model.frame_samples), 2)
    utterances = ShardSet(config.corpus, "utterances", split)
    return Crops(
        utterances, model.sample_rate_hz, frames * model.frame_samples, model.num_codebooks, config.seed
    )


class Pace:
    """How fast a run goes."""

    def __init__(self, config: CodecTrainingConfig, state: TrainState) -> None:
        self._audio_s_per_step = config.batch * config.crop_s
        self._step, self._at = state.step, time.monotonic()

    def metrics(self, state: TrainState) -> dict[str, float]:
        """Since the last call: seconds of audio per second and worker; and the learning rate now."""
        steps, elapsed = state.step - self._step, time.monotonic() - self._at
        self._step, self._at = state.step, time.monotonic()
        return {
            "audio_s_per_s": steps * self._audio_s_per_step / max(elapsed, 1e-9),
            "learning_rate": state.optimiser.param_groups[0]["lr"],
        }


@torch.no_grad()
def evaluate(state: TrainState, dev: Crops, reporter: Reporter) -> Mapping[str, float]:
    """Judge the codec on the dev split with all codebooks; report metrics, a pair of WAVs and a picture."""
    state.codec.eval()
    batch = dev.batch(0, state.config.evaluate_clips, state.world).to(state.world.device)
    codes = state.codec.encode(batch.wave)
    decoded = state.codec.decode(codes)
    losses = _reconstruction(state, decoded, batch.wave)
    si_sdr = si_sdr_db(*aligned(state.codec, decoded, batch.wave)).mean()
    values = mean_over_world({**losses, "si_sdr_db": si_sdr}, state.world)
    counts = sum_over_world(histogram(codes, state.codec.codebook_size), state.world)
    values["codebook_share_used"] = float(share_used(counts).mean())
    values |= {f"codebook_{k}_perplexity": value for k, value in enumerate(perplexity(counts).tolist())}
    metrics = {f"dev_{name}": value for name, value in values.items()}
    reporter.metrics(state.step, metrics)
    _report_sample(state, batch.wave[0, 0], decoded[0, 0], reporter)
    return metrics


def _report_sample(state: TrainState, original: Tensor, decoded: Tensor, reporter: Reporter) -> None:
    """Rank 0 writes the first clip before and after coding; every rank names the files."""
    folder = state.config.out / "samples" / f"step-{state.step:06d}"
    waves = {"original": original.cpu().numpy(), "decoded": decoded.cpu().numpy()}
    rate_hz, picture = state.codec.sample_rate_hz, folder / "spectrograms.png"
    if state.world.is_main:
        for name, wave in waves.items():
            write_wav(folder / f"{name}.wav", wave, rate_hz)
        pictures.spectrograms(picture, waves, rate_hz)
    for path in (*(folder / f"{name}.wav" for name in waves), picture):
        reporter.artifact(path, f"samples/{folder.name}")


def save(state: TrainState, reporter: Reporter, parents: Mapping[str, str]) -> Path:
    """Rank 0 writes `out/step-NNNNNN`; every rank reports it. Raises `StorageError`."""
    folder = checkpoint.folder_of(state.config.out, state.step)
    if state.world.is_main:
        checkpoint.save(
            folder,
            "codec",
            state.config.model,
            state.codec.state_dict(),
            {"optimiser": state.optimiser.state_dict()},
            step=state.step,
            run_id=reporter.run_id,
            parents=parents,
        )
    reporter.checkpoint(folder if state.world.is_main else None, state.step)
    if state.world.is_main:
        checkpoint.prune(state.config.out)
    return folder


def restore_(state: TrainState, folder: Path, parents: Mapping[str, str]) -> None:
    """Bring a fresh state to where a checkpoint was, in place. Raises `CheckpointError`."""
    card, weights, training = checkpoint.restore(folder, "codec", state.config.model, parents)
    state.codec.load_state_dict(weights)
    state.optimiser.load_state_dict(training["optimiser"])
    state.step = card.step


@exits_cleanly
def main() -> None:
    """Train without Ray; a run that was stopped goes on from the newest checkpoint in `out`."""
    config = from_command_line(CodecTrainingConfig, __doc__ or "")
    to_stderr()
    with joined() as world:
        run(config, ConsoleReporter(world), checkpoint.newest(config.out))


if __name__ == "__main__":
    main()
