"""Trains a codec: plain torch, alone, under torchrun, or under Ray Train.

    python -m paluku.training.codec_loop CONFIG.yaml [key=value ...]

For the first steps the latents stay unquantised; then k-means sets the codebooks, which follow the data
from there on. Discriminators join at `adversarial_after_steps`, once there is speech to judge. What is
evaluated and shipped is the moving average of the weights.
"""

import time
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paluku.audio import write_wav
from paluku.codec.losses import (
    BandNoiseLoss,
    LoudnessLoss,
    MultiScaleMelLoss,
    TeacherLoss,
    noise_to_signal,
    si_sdr_db,
)
from paluku.codec.native import NativeCodec
from paluku.codec.quantizer import Quantized, histogram, perplexity, share_used
from paluku.codec.trainable import TrainableCodec, build_codec, latent_dim
from paluku.config import from_command_line
from paluku.corpus.shards import ShardSet, Split
from paluku.corpus.teacher.features import TeacherFeatures
from paluku.errors import exits_cleanly
from paluku.log import to_stderr
from paluku.registry.codecs import beginning
from paluku.shapes import MonoWave
from paluku.training import checkpoint, pictures
from paluku.training.average import WeightAverage
from paluku.training.balancer import Balancer
from paluku.training.codec_config import CodecTrainingConfig
from paluku.training.console import ConsoleReporter
from paluku.training.crops import CropBatch, Crops
from paluku.training.gan import Gan
from paluku.training.optim import BROKEN_AUDIO, check_finite
from paluku.training.ports import Reporter
from paluku.training.schedule import set_learning_rate, warmup_cosine
from paluku.training.world import (
    World,
    current_world,
    distribute,
    from_main_,
    joined,
    mean_over_world,
    sum_over_world,
)

# The loss by bands sees frames of 40 ms in hops of 10 ms, as the native codec does, whatever it trains.
HOPS_PER_S, HOPS_PER_FRAME, BANDS = 100, 4, 20


@dataclass
class TrainState:
    """Everything a step changes, and what it needs to change it."""

    config: CodecTrainingConfig
    world: World
    codec: TrainableCodec
    parallel: nn.Module  # the codec, in DDP when there are several workers
    average: WeightAverage
    optimiser: torch.optim.Optimizer
    balancer: Balancer
    losses: nn.ModuleDict  # those with tables of their own; nothing in them is trained
    pupil: TeacherLoss | None
    parallel_pupil: nn.Module | None
    gan: Gan | None
    step: int = 0  # steps done


def build(
    config: CodecTrainingConfig, world: World, teacher_dim: int | None = None, *, resumes: bool = False
) -> TrainState:
    """A fresh state, the same on every worker; with `teacher_dim`, one that learns from a teacher.

    What it `resumes` from has the weights that it once began from: they need not be there any more.
    """
    torch.manual_seed(config.seed)
    codec = build_codec(config.model)
    if config.begin_from is not None and not resumes:
        codec.load_state_dict(beginning(config.begin_from, config.model))
    for part in config.frozen:
        codec.get_submodule(part).requires_grad_(False)
    parallel = distribute(codec, world)
    pupil = None if teacher_dim is None else TeacherLoss(latent_dim(config.model), teacher_dim)
    learned = [weight for weight in codec.parameters() if weight.requires_grad]
    return TrainState(
        config,
        world,
        codec,
        parallel,
        WeightAverage(codec, config.average_decay),
        torch.optim.AdamW(
            learned + ([] if pupil is None else list(pupil.parameters())),
            lr=config.learning_rate,
            betas=(0.8, 0.99),
        ),
        Balancer(config.weights.of_the_wave, config.balancer, world),
        _fixed_losses(config.model.sample_rate_hz).to(world.device),
        pupil,
        None if pupil is None else distribute(pupil, world),
        None if config.adversarial_after_steps is None else Gan(config.gan, world),
    )


def _fixed_losses(rate_hz: int) -> nn.ModuleDict:
    band = BandNoiseLoss(rate_hz, rate_hz // HOPS_PER_S, HOPS_PER_FRAME, BANDS)
    losses = {"band": band, "loudness": LoudnessLoss(rate_hz), "mel": MultiScaleMelLoss(rate_hz)}
    return nn.ModuleDict(losses).requires_grad_(False)


def step(state: TrainState, batch: CropBatch) -> dict[str, Tensor]:
    """One update of weights, discriminators and codebooks; the losses before it, as scalars.

    Raises:
        TrainingError: when the gradient is not finite; weights are left as they were.
    """
    config, codec = state.config, state.codec
    codec.train()
    quantises = state.step >= config.quantise_after_steps or config.begins_with_codebooks
    decoded, quantized = state.parallel(batch.wave, batch.num_codebooks if quantises else None)
    # A leaf: each loss's own gradient ends at the wave, where they are weighed against each other.
    heard = decoded.detach().requires_grad_()
    losses, judged = _of_the_wave(state, heard, batch.wave)
    direct = _direct(state, quantized, batch)
    gradient = state.balancer.balance(losses, heard).gradient
    if judged is not None:
        losses["discriminator"] = judged.detach()
    norm = _descend(state, decoded, gradient, direct, losses | direct)
    if judged is not None and state.gan is not None:
        state.gan.learn(judged, _rate_share(state))
    if quantized is not None and "quantizer" not in config.frozen:
        codec.quantizer.learn_(quantized)
    state.average.update(codec)
    state.step += 1
    weights = config.weights.of_the_wave
    pushed = [weights[name] * losses[name] for name in weights if name in losses]
    total = torch.stack([*pushed, *direct.values()])
    values = losses | direct | {"gradient_norm": norm, "loss": total.sum()}
    return {name: value.detach() for name, value in values.items()}


def _of_the_wave(
    state: TrainState, decoded: MonoWave, wave: MonoWave
) -> tuple[dict[str, Tensor], Tensor | None]:
    """The losses that the balancer weighs; and what the discriminators' verdicts cost themselves."""
    decoded, wave = aligned(state.codec, decoded, wave)
    weights, judged = state.config.weights.of_the_wave, None
    found = _distances(state, decoded, wave, weights)
    if state.gan is not None and state.step >= (state.config.adversarial_after_steps or 0):
        ours, judged = state.gan.losses(decoded, wave)
        found |= {name: value for name, value in ours.items() if name in weights}
    return found, judged


# What `_distances` knows beside the losses with tables.
WAVE = "wave"


def _distances(
    state: TrainState, decoded: MonoWave, wave: MonoWave, names: Container[str]
) -> dict[str, Tensor]:
    """How far the decoded wave is from the original, by those of the measures that are named."""
    found = {WAVE: noise_to_signal(decoded, wave)} if WAVE in names else {}
    return found | {name: loss(decoded, wave) for name, loss in state.losses.items() if name in names}


def _direct(state: TrainState, quantized: Quantized | None, batch: CropBatch) -> dict[str, Tensor]:
    """The losses that do not go through the wave, weighted."""
    if quantized is None:
        return {}
    weights = state.config.weights
    found = {"commitment": weights.commitment * quantized.commitment}
    if state.parallel_pupil is not None:
        assert batch.teacher is not None, "the batch lacks what the teacher heard"
        found["teacher"] = weights.teacher * state.parallel_pupil(quantized.first, batch.teacher)
    return found


def aligned(
    codec: TrainableCodec, decoded: MonoWave, wave: MonoWave
) -> tuple[Float[Tensor, "B 1 R"], Float[Tensor, "B 1 R"]]:
    """The decoded wave and the original, both without what the codec's delay leaves unmatched."""
    delay = codec.delay_samples
    return decoded[..., delay:], wave[..., : wave.shape[-1] - delay]


def _rate_share(state: TrainState) -> float:
    return warmup_cosine(state.step, state.config.steps, state.config.warmup_steps)


def _descend(
    state: TrainState,
    decoded: MonoWave,
    gradient: MonoWave,
    direct: Mapping[str, Tensor],
    losses: Mapping[str, Tensor],
) -> Tensor:
    """Back-propagate, clip, step; the gradient's norm before clipping."""
    config = state.config
    set_learning_rate(state.optimiser, _rate_share(state) * config.learning_rate)
    state.optimiser.zero_grad()
    # A frozen encoder commits to nothing.
    pulling = [value for value in direct.values() if value.requires_grad]
    torch.autograd.backward([decoded, *pulling], [gradient, *[None] * len(pulling)])
    learned = [weight for group in state.optimiser.param_groups for weight in group["params"]]
    # After DDP's all-reduce the norm is the same everywhere: all workers stop, or none.
    norm = nn.utils.clip_grad_norm_(learned, config.max_gradient_norm)
    check_finite(norm, state.step + 1, losses, BROKEN_AUDIO)
    state.optimiser.step()
    return norm


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
    state = build(config, world, train.teacher_dim, resumes=resume is not None)
    parents = {"corpus": train.utterances.manifest.hash}
    if resume is not None:
        restore_(state, resume, parents)
    folder = None
    pace = Pace(config, state)
    while state.step < config.steps:
        prepare_(state, train)
        losses = step(state, train.batch(state.step, config.batch, world).to(world.device))
        if _due(state, config.log_every):
            reporter.metrics(state.step, mean_over_world(losses, world) | pace.metrics(state))
        if _due(state, config.evaluate_every):
            evaluate(state, dev, reporter)
        if _due(state, config.checkpoint_every):
            folder = save(state, reporter, parents)
    return folder or save(state, reporter, parents)


def prepare_(state: TrainState, train: Crops) -> None:
    """What a fresh codec takes from much speech at once before its next step, in place.

    The native codec's linear path begins from the directions in which speech differs most: from random ones
    it took most of the first thousand steps to get there. Codebooks begin from k-means: from a single batch
    they had two thirds of the perplexity.
    """
    config, codec = state.config, state.codec
    if config.begins_with_codebooks:
        return
    if state.step == 0 and isinstance(codec, NativeCodec):
        products = torch.stack([codec.frame_products(wave) for wave in _waves(state, train)]).sum(dim=0)
        codec.project_on_(sum_over_world(products, state.world))
        # Eigenvectors have signs, and their order among equals, by the library that finds them.
        from_main_(codec, state.world)
        state.average.copy_from(codec)
    if state.step == config.quantise_after_steps:
        with torch.no_grad():
            latents = [codec.latents(wave) for wave in _waves(state, train)]
        codec.quantizer.initialise_(*latents)


def _waves(state: TrainState, train: Crops) -> Iterator[MonoWave]:
    """Of the next batches."""
    config, world = state.config, state.world
    for step in range(state.step, state.step + config.prepare_from_batches):
        yield train.batch(step, config.batch, world).wave.to(world.device)


def _due(state: TrainState, every: int) -> bool:
    return state.step % every == 0 or state.step == state.config.steps


def crops(config: CodecTrainingConfig, split: Split, crop_s: float) -> Crops:
    """Crops of `crop_s`, rounded to whole frames, from one split. Raises `CorpusError`."""
    model = config.model
    frames = max(round(crop_s * model.sample_rate_hz / model.frame_samples), 2)
    utterances = ShardSet(config.corpus, "utterances", split)
    samples = frames * model.frame_samples
    if split != "train":
        return Crops(utterances, model, samples, config.seed)
    teacher = None
    if config.teacher is not None:
        teacher = TeacherFeatures(config.teacher, split, corpus_hash=utterances.manifest.hash)
    return Crops(utterances, model, samples, config.seed, teacher, config.levels_db)


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
    """Judge the averaged codec on the dev split; report metrics, a pair of WAVs and a picture.

    With all codebooks, and (names ending in `_half`) with half of them.
    """
    state.codec.eval()
    batch = dev.batch(0, state.config.evaluate_clips, state.world).to(state.world.device)
    with state.average.averaged(state.codec):
        codes = state.codec.encode(batch.wave)
        decoded = state.codec.decode(codes)
        half = state.codec.decode(codes[:, : max(codes.shape[1] // 2, 1)])
    found = _judged(state, decoded, batch.wave)
    found |= {f"{name}_half": value for name, value in _judged(state, half, batch.wave).items()}
    values = mean_over_world(found, state.world)
    counts = sum_over_world(histogram(codes, state.codec.codebook_size), state.world)
    values["codebook_share_used"] = float(share_used(counts).mean())
    values |= {f"codebook_{k}_perplexity": value for k, value in enumerate(perplexity(counts).tolist())}
    metrics = {f"dev_{name}": value for name, value in values.items()}
    reporter.metrics(state.step, metrics)
    _report_sample(state, batch.wave[0, 0], decoded[0, 0], reporter)
    return metrics


def _judged(state: TrainState, decoded: MonoWave, wave: MonoWave) -> dict[str, Tensor]:
    decoded, wave = aligned(state.codec, decoded, wave)
    every = {WAVE, *state.losses.keys()}
    return _distances(state, decoded, wave, every) | {"si_sdr_db": si_sdr_db(decoded, wave).mean()}


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
            state.average.weights,
            _training_state(state),
            step=state.step,
            run_id=reporter.run_id,
            parents=parents,
        )
    reporter.checkpoint(folder if state.world.is_main else None, state.step)
    if state.world.is_main:
        checkpoint.prune(state.config.out)
    return folder


def _training_state(state: TrainState) -> dict[str, Any]:
    """What is needed to go on, beside what is served."""
    return {
        "weights": state.codec.state_dict(),
        "average": state.average.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "balancer": state.balancer.state_dict(),
        "pupil": None if state.pupil is None else state.pupil.state_dict(),
        "gan": None if state.gan is None else state.gan.state_dict(),
    }


def restore_(state: TrainState, folder: Path, parents: Mapping[str, str]) -> None:
    """Bring a fresh state to where a checkpoint was, in place. Raises `CheckpointError`."""
    card, _, training = checkpoint.restore(folder, "codec", state.config.model, parents)
    state.codec.load_state_dict(training["weights"])
    state.average.load_state_dict(training["average"])
    state.balancer.load_state_dict(training["balancer"])
    # A teacher, or discriminators, may join a run that began without them.
    if state.pupil is not None and training["pupil"] is not None:
        state.pupil.load_state_dict(training["pupil"])
    if state.gan is not None and training["gan"] is not None:
        state.gan.load_state_dict(training["gan"])
    _restore_optimiser_(state.optimiser, training["optimiser"])
    state.step = card.step


def _restore_optimiser_(optimiser: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """The saved moments; weights that have joined since begin with none."""
    (group,) = optimiser.state_dict()["param_groups"]
    (old,) = saved["param_groups"]
    optimiser.load_state_dict({"state": saved["state"], "param_groups": [old | {"params": group["params"]}]})


@exits_cleanly
def main() -> None:
    """Train without Ray; a run that was stopped goes on from the newest checkpoint in `out`."""
    config = from_command_line(CodecTrainingConfig, __doc__ or "")
    to_stderr()
    with joined() as world:
        run(config, ConsoleReporter(world), checkpoint.newest(config.out))


if __name__ == "__main__":
    main()
