"""Gives a trained encoder and decoder the quantizer of our frames: plain torch, a matter of minutes.

    python -m paluku.training.requantise CONFIG.yaml [key=value ...]

Encoder and decoder stay as they are. First a small network learns to tell from the latents what a frozen
speech encoder heard, and k-means of what it tells becomes the first codebook; the other codebooks begin from
k-means of what is left, and are then fitted together, again and again, to the codes that a beam search finds.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import cosine_similarity, embedding

from paluku.audio import read_mono
from paluku.codec.beam import beam_codes, refitted
from paluku.codec.quantizer import QuantizerConfig, histogram, kmeans, nearest, perplexity, share_used
from paluku.codec.semantic import SemanticCodebook, SemanticConfig
from paluku.codec.soundstream import SoundStreamCodec
from paluku.codec.soundstream_config import SoundStreamConfig
from paluku.config import AbsolutePath, Config, from_command_line
from paluku.corpus.shards import ShardSet, Split
from paluku.corpus.teacher.features import TeacherFeatures
from paluku.errors import CheckpointError, CorpusError, exits_cleanly
from paluku.log import to_stderr
from paluku.registry.artefact import appearing_whole, read_card, write_model
from paluku.registry.codecs import beginning, load_codec
from paluku.training import checkpoint
from paluku.training.console import ConsoleReporter
from paluku.training.crops import at_some_level
from paluku.training.ports import Reporter
from paluku.training.schedule import set_learning_rate, warmup_cosine
from paluku.training.world import current_world

ROWS_AT_ONCE = 64
CODED_AT_ONCE = 4000


class SemanticTraining(Config):
    """How the first codebook's network learns."""

    steps: int = Field(default=1200, ge=1)
    batch: int = Field(default=32, ge=1)
    frames: int = Field(default=128, ge=8)  # of a crop; what it has not heard enough of does not count
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup_steps: int = Field(default=30, ge=0)
    log_every: int = Field(default=100, ge=1)


class RequantiseConfig(Config):
    """One run."""

    corpus: AbsolutePath  # folder of utterances (paluku.corpus.shards)
    out: AbsolutePath  # the model comes here
    teacher: AbsolutePath | None = None  # what a speech encoder heard in them (jobs/extract_teacher.py)
    begin_from: Literal["lyra"] | AbsolutePath = "lyra"  # or a model folder
    model: SoundStreamConfig = SoundStreamConfig(semantic=SemanticConfig(), quantizer=QuantizerConfig(beam=4))
    # Utterances are made softer or louder by a gain in this range.
    levels_db: tuple[float, float] = (-9.0, 3.0)
    max_frames: int = Field(default=500_000, ge=1000)  # memory and time grow with them
    semantic: SemanticTraining = SemanticTraining()
    kmeans_rounds: int = Field(default=10, ge=1)
    refine_rounds: int = Field(default=3, ge=0)
    # What the error at so many codebooks counts; those that there are not are left out.
    depths: dict[int, float] = Field(default={4: 0.5, 8: 1.0, 12: 0.5, 16: 1.0})
    ridge: float = Field(default=2.0, gt=0)  # `codec.beam.refitted`
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> "RequantiseConfig":
        if (self.teacher is None) != (self.model.semantic is None):
            raise ValueError(
                "a first codebook for what is said needs a teacher, which is for nothing else; "
                "give both `teacher` and `model.semantic`, or neither"
            )
        if self.model.num_codebooks not in self.depths:
            raise ValueError(f"depths {sorted(self.depths)} must have model.num_codebooks among them")
        return self


class Heard(NamedTuple):
    """A split's utterances one after the other."""

    latents: Float[Tensor, "N D"]
    teacher: Float[Tensor, "N E"] | None
    lengths: list[int]  # frames of each utterance

    def crops(self, batch: int, frames: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latents `[B, D, T]` and teacher `[B, T, E]`; a crop may go from one utterance into the next."""
        assert self.teacher is not None, "nothing to learn from"
        starts = torch.randint(max(len(self.latents) - frames, 1), (batch,), generator=random)
        rows = starts[:, None] + torch.arange(min(frames, len(self.latents)))
        return self.latents[rows].transpose(1, 2), self.teacher[rows]


def run(config: RequantiseConfig, reporter: Reporter, resume: Path | None = None) -> Path:  # noqa: ARG001
    """Fit everything; the model's folder. It takes minutes: a stopped run begins again.

    Raises:
        CorpusError: when the corpus or the teacher is not whole, or holds too little speech.
        CheckpointError: when what it begins from is missing, damaged or of other sizes.
        StorageError: when `config.out` cannot be written.
    """
    torch.manual_seed(config.seed)
    codec = SoundStreamCodec(config.model).requires_grad_(False)
    for part, weights in networks(config).items():
        codec.get_submodule(part).load_state_dict(weights)
    train, dev = (hear(codec, config, split) for split in ("train", "dev"))
    if len(train.latents) < config.model.codebook_size:
        raise CorpusError(
            f"{config.corpus} has {len(train.latents)} frames of speech, fewer than a codebook's "
            f"{config.model.codebook_size} entries; give more speech"
        )
    steps = 0
    if codec.semantic is not None:
        learn_semantic_(codec.semantic, train, dev, config, reporter)
        steps = config.semantic.steps
    fit_codebooks_(codec, train, dev, config, reporter, steps)
    return _save(codec, config, reporter, steps)


def networks(config: RequantiseConfig) -> dict[str, dict[str, Tensor]]:
    """Weights of `encoder` and `decoder` that the run begins from, and stays with.

    Raises:
        CheckpointError: when they are missing, damaged, or of other sizes than `config.model`.
    """
    begin_from, model = config.begin_from, config.model
    if not isinstance(begin_from, Path):
        weights = beginning(begin_from, model)
    else:
        codec = load_codec(begin_from)[1]
        sizes = ("sample_rate_hz", "channels", "strides", "feature_dim")
        if not isinstance(codec, SoundStreamCodec) or any(
            getattr(codec.config, size) != getattr(model, size) for size in sizes
        ):
            raise CheckpointError(
                f"begin_from: {begin_from} has other networks than `model`; give the sizes it was made with"
            )
        weights = codec.state_dict()
    return {
        part: {name.removeprefix(f"{part}."): each for name, each in weights.items() if name.startswith(part)}
        for part in ("encoder", "decoder")
    }


@torch.no_grad()
def hear(codec: SoundStreamCodec, config: RequantiseConfig, split: Split) -> Heard:
    """Every utterance's latents, at some level; and what the teacher heard in it. Raises `CorpusError`."""
    utterances = ShardSet(config.corpus, "utterances", split)
    teacher = None
    if config.teacher is not None:
        teacher = TeacherFeatures(config.teacher, split, corpus_hash=utterances.manifest.hash)
    latents, heard, lengths = [], [], []
    for first in range(0, len(utterances), ROWS_AT_ONCE):
        places = range(first, min(first + ROWS_AT_ONCE, len(utterances)))
        for place, row in zip(places, utterances.rows(places), strict=True):
            wave = read_mono(row["audio"], codec.sample_rate_hz, row["id"])
            wave = at_some_level(wave, config.levels_db, np.random.default_rng((config.seed, place)))
            if not (frames := len(wave) // codec.frame_samples):
                continue
            whole = torch.from_numpy(wave[: frames * codec.frame_samples].copy())
            latents.append(codec.latents(whole[None, None])[0].T)
            if teacher is not None:
                heard.append(torch.from_numpy(teacher.crop(row["id"], 0, frames, codec.sample_rate_hz)))
            lengths.append(frames)
            if sum(lengths) >= config.max_frames:
                return Heard(torch.cat(latents), torch.cat(heard) if heard else None, lengths)
    if not lengths:
        raise CorpusError(
            f"{config.corpus} has no {split} split; build it with more speakers or other shares"
        )
    return Heard(torch.cat(latents), torch.cat(heard) if heard else None, lengths)


def learn_semantic_(
    book: SemanticCodebook, train: Heard, dev: Heard, config: RequantiseConfig, reporter: Reporter
) -> None:
    """Train the network, then set its entries by k-means of what it tells, in place."""
    learning = config.semantic
    book.mean.copy_(train.latents.mean(dim=0))
    book.deviation.copy_(train.latents.std(dim=0).clamp(min=1e-6))
    weights = [weight.requires_grad_() for weight in book.net.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=learning.learning_rate)
    random = torch.Generator().manual_seed(config.seed)
    for step in range(learning.steps):
        share = warmup_cosine(step, learning.steps, learning.warmup_steps)
        set_learning_rate(optimiser, share * learning.learning_rate)
        loss = teacher_distance(book, *train.crops(learning.batch, learning.frames, random))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) % learning.log_every == 0 or step + 1 == learning.steps:
            reporter.metrics(
                step + 1, {"teacher_distance": loss.item(), "dev_teacher_distance": _of_dev(book, dev)}
            )
    book.net.requires_grad_(False)
    said = torch.cat([book(part.T[None])[0].T for part in train.latents.split(CODED_AT_ONCE)])
    book.entries.copy_(kmeans(said, len(book.entries), config.kmeans_rounds, config.seed)[0])


def teacher_distance(
    book: SemanticCodebook, latents: Float[Tensor, "B D T"], teacher: Float[Tensor, "B T E"]
) -> Float[Tensor, ""]:
    """One minus the cosine to what the teacher heard `delay_frames` before, once enough has been heard."""
    delay, unheard = book.config.delay_frames, min(book.reach_frames, latents.shape[2] // 4)
    said = book(latents).transpose(1, 2)[:, delay:]
    meant = teacher[:, : teacher.shape[1] - delay]
    distance = 1 - cosine_similarity(said[:, unheard:], meant[:, unheard:], dim=2)
    return distance.mean()


@torch.no_grad()
def _of_dev(book: SemanticCodebook, dev: Heard) -> float:
    assert dev.teacher is not None, "nothing to compare with"
    return teacher_distance(book, dev.latents.T[None], dev.teacher[None]).item()


@torch.no_grad()
def fit_codebooks_(
    codec: SoundStreamCodec,
    train: Heard,
    dev: Heard,
    config: RequantiseConfig,
    reporter: Reporter,
    steps: int,
) -> None:
    """Set the codebooks by k-means, one after the other, then refit all of them together, in place."""
    quantizer, first = codec.quantizer, _first(codec, train)
    random = torch.randperm(len(train.latents), generator=torch.Generator().manual_seed(config.seed))
    rest = train.latents.clone()
    for k, codebook in enumerate(quantizer.codebooks):
        if k == 0 and first is not None:
            codebook.copy_(_means(rest, first, codebook))
            rest -= embedding(first, codebook)
            continue
        codebook.copy_(kmeans(rest[random], len(codebook), config.kmeans_rounds, seed=k)[0])
        rest -= embedding(nearest(rest, codebook), codebook)
    quantizer.measure_()
    reporter.metrics(steps, _coded(codec, dev))
    for turn in range(config.refine_rounds):
        codes = _codes(codec, train.latents, first)
        depths = {n: share for n, share in config.depths.items() if n <= len(quantizer.codebooks)}
        fitted = refitted(quantizer.codebooks, train.latents, codes, depths, config.ridge)
        quantizer.codebooks.copy_(fitted)
        quantizer.measure_()
        reporter.metrics(steps + turn + 1, _coded(codec, dev))
    _begin_learning_(codec, train, first)


def _means(
    vectors: Float[Tensor, "N D"], codes: Int[Tensor, "N"], otherwise: Float[Tensor, "V D"]
) -> Float[Tensor, "V D"]:
    """The mean of each code's vectors; a code without any keeps what it has."""
    sums = torch.zeros_like(otherwise).index_add_(0, codes, vectors)
    counts = torch.bincount(codes, minlength=len(otherwise))[:, None]
    return torch.where(counts > 0, sums / counts.clamp(min=1), otherwise)


def _first(codec: SoundStreamCodec, heard: Heard) -> Int[Tensor, "N"] | None:
    """What is said in every frame, utterance by utterance."""
    if codec.semantic is None:
        return None
    book = codec.semantic
    return torch.cat([book.codes(part.T[None])[0] for part in heard.latents.split(heard.lengths)])


def _codes(
    codec: SoundStreamCodec, latents: Float[Tensor, "N D"], first: Int[Tensor, "N"] | None
) -> Int[Tensor, "N K"]:
    quantizer, beam = codec.quantizer, max(codec.config.quantizer.beam, 1)
    firsts = itertools.repeat(None) if first is None else iter(first.split(CODED_AT_ONCE))
    parts = [
        beam_codes(
            part.T[None],
            quantizer.codebooks,
            quantizer.norms,
            beam,
            None if given is None else given[None],
        )
        for part, given in zip(latents.split(CODED_AT_ONCE), firsts, strict=False)
    ]
    return torch.cat(parts, dim=2)[0].T


def _coded(codec: SoundStreamCodec, dev: Heard) -> dict[str, float]:
    """What is left over of unheard speakers' latents, as a share of their energy; and how codes are used."""
    codes = _codes(codec, dev.latents, _first(codec, dev))
    books, energy = codec.quantizer.codebooks, dev.latents.square().sum()
    rest, found = dev.latents.clone(), {}
    for k, book in enumerate(books):
        rest -= embedding(codes[:, k], book)
        if k + 1 in (1, len(books) // 2, len(books)):
            found[f"dev_left_over_{k + 1}"] = float(rest.square().sum() / energy)
    counts = histogram(codes.T[None], codec.codebook_size)
    use = {"dev_codebook_share_used": float(share_used(counts).mean())}
    each = {f"dev_codebook_{k}_perplexity": value for k, value in enumerate(perplexity(counts).tolist())}
    return found | use | each


def _begin_learning_(codec: SoundStreamCodec, train: Heard, first: Int[Tensor, "N"] | None) -> None:
    """The moving averages from which a later training goes on: counts of a batch's size."""
    quantizer = codec.quantizer
    codes = _codes(codec, train.latents, first)
    counts = histogram(codes.T[None], codec.codebook_size).float()
    quantizer.counts.copy_(counts * (codec.codebook_size / len(codes)))
    quantizer.sums.copy_(quantizer.codebooks * quantizer.counts[..., None])


def _save(codec: SoundStreamCodec, config: RequantiseConfig, reporter: Reporter, steps: int) -> Path:
    folder = checkpoint.folder_of(config.out, steps + config.refine_rounds)
    with appearing_whole(folder) as partial:
        write_model(
            partial,
            "codec",
            config.model,
            codec.state_dict(),
            step=steps,
            run_id=reporter.run_id,
            parents=_parents(config),
        )
    reporter.checkpoint(folder, steps + config.refine_rounds)
    return folder


def _parents(config: RequantiseConfig) -> Mapping[str, str]:
    found = {"corpus": ShardSet(config.corpus, "utterances", "train").manifest.hash}
    if config.teacher is not None:
        found["teacher"] = ShardSet(config.teacher, "features", "train").manifest.hash
    if isinstance(config.begin_from, Path):
        found["codec"] = read_card(config.begin_from, "codec").hash
    return found


@exits_cleanly
def main() -> None:
    """Fit without Ray."""
    config = from_command_line(RequantiseConfig, __doc__ or "")
    to_stderr()
    run(config, ConsoleReporter(current_world()))


if __name__ == "__main__":
    main()
