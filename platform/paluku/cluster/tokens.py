"""Dialogues, or single utterances (`tokens.listening`), to codes with Ray Data: one task a shard of them.

A task is a pure function of its plan, and a finished one is remembered (`cluster.shard_tasks`): any number
of workers, killed at any moment and started again, leave the same bytes. The manifest comes last.
"""

import functools
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from paluku.cluster.progress import Measure
from paluku.cluster.shard_tasks import Running, run_resumably
from paluku.codec.trainable import TrainableCodec
from paluku.config import AbsolutePath, Config
from paluku.corpus.building.ownership import Ownership, owning, refuse_lost
from paluku.corpus.building.standing import (
    HASH_DIGITS,
    OUTCOMES,
    WORK,
    WorkKey,
    begin_work,
    finished,
    is_there,
    refuse_changed,
    sweep,
)
from paluku.corpus.shard_rows import Rows, sources
from paluku.corpus.shards import (
    MANIFEST,
    SCHEMAS,
    SPLITS,
    Kind,
    Manifest,
    ShardInfo,
    ShardSet,
    hours,
    read_manifest,
    shard_name,
    write_manifest,
    write_shard,
)
from paluku.corpus.storage import AnyPlace, Place
from paluku.errors import CorpusError
from paluku.log import logger
from paluku.registry.artefact import Card
from paluku.registry.codecs import DEFAULT, load_codec, shipped_codec, with_first_codebooks
from paluku.tokens import extract as making
from paluku.tokens import listening, voicing
from paluku.tokens import stops as stopping
from paluku.tokens import text as tokenizing
from paluku.tokens.extract import STOP_S, rows_of_tokens
from paluku.tokens.listening import listened
from paluku.tokens.text import TextTokenizer, default_tokenizer, read_tokenizer
from paluku.tokens.voicing import other_voice

SECONDS_PER_MINUTE = 60
# Who makes what is encoded, and what says its rate.
BUILT_BY: dict[Kind, tuple[str, str]] = {
    "dialogues": ("jobs/build_dialogues.py", "rendering.sample_rate_hz"),
    "utterances": ("jobs/build_corpus.py", "preparation.sample_rate_hz"),
}

log = logger("tokens")


class ExtractConfig(Config):
    """Settings of `jobs/extract_tokens.py`. On a cluster every node must reach what is named here."""

    dialogues: AnyPlace | None = None  # a corpus of dialogues
    utterances: AnyPlace | None = None  # or one of utterances: the user speaks, and nobody answers
    codec: Literal["default"] | AbsolutePath = DEFAULT  # a codec's model folder; default: the shipped one
    out: AnyPlace
    tokenizer: AbsolutePath | None = None  # a file; without: the shipped one
    num_codebooks: int | None = Field(default=None, ge=1)  # the codec's first ones; without: all
    batch_s: float = Field(default=30.0, ge=0)  # of sound through the codec at once, in one task
    stop_s: float | None = Field(default=STOP_S, ge=0)  # replies fall silent so soon (`tokens.stops`)
    # Each dialogue of the train split so many times more, the user in another voice (`tokens.voicing`).
    other_voices: int = Field(default=0, ge=0)
    cpus_per_task: float = Field(default=1.0, gt=0)
    overwrite: bool = False

    @model_validator(mode="after")
    def _one_corpus(self) -> "ExtractConfig":
        if (self.dialogues is None) == (self.utterances is None):
            raise ValueError("give one corpus to encode: dialogues=FOLDER or utterances=FOLDER")
        return self

    @property
    def corpus(self) -> tuple[Kind, str]:
        """What is encoded, and where it lies."""
        if self.dialogues is not None:
            return "dialogues", self.dialogues
        assert self.utterances is not None, "the validator has seen to it"
        return "utterances", self.utterances

    @property
    def codec_folder(self) -> Path:
        """Raises `CheckpointError` where the shipped one is asked for and did not come along."""
        return self.codec if isinstance(self.codec, Path) else shipped_codec()

    @property
    def text_tokenizer(self) -> TextTokenizer:
        """Raises `CheckpointError` when its file is missing or damaged."""
        return read_tokenizer(self.tokenizer) if self.tokenizer else default_tokenizer()


class ShardPlan(Config):
    """The rows of a shard of a corpus become a shard of tokens, by this codec and this tokenizer."""

    source: Rows
    codec: str
    tokenizer: str


class ShardOutcome(Config):
    """A shard of tokens, its length in codec frames, and what making it took."""

    shard: ShardInfo
    frames: int
    audio_s: float
    took_s: float


class Extracted(NamedTuple):
    """What there is now, and how fast it was made: hours of dialogue in a minute of one task."""

    manifest: Manifest
    hours_per_minute: float | None  # none when all was there


class _Extraction(NamedTuple):
    """What every step of one run needs."""

    config: ExtractConfig
    corpus: Manifest
    key: WorkKey
    parents: dict[str, str]
    recipe: dict[str, Any]
    frame_rate_hz: float
    out: Place
    run: Running


def extract(config: ExtractConfig, run: Running = run_resumably) -> Extracted:
    """Encode every dialogue and place its transcripts, or continue, or keep what is there already.

    Raises:
        CorpusError: when the dialogues are missing, damaged, or of another rate than the codec's, or `out`
            holds something else and `overwrite` is not set.
        CheckpointError: when codec or tokenizer are missing, damaged or something else.
        StorageError: when a place is full, read-only or out of reach; what is done stays done.
    """
    extraction = _opened(config, run)
    out = extraction.out
    manifest = finished(out, "tokens", extraction.key.recipe, extraction.parents, overwrite=config.overwrite)
    if manifest is not None:
        log.info("out=%s is whole and of these settings: kept as it is", out)
        return Extracted(manifest, None)
    with owning(out / WORK) as ownership:
        begin_work(out, extraction.key)
        out.delete(MANIFEST)
        return _extract(extraction, ownership)


def shallow_codec(config: ExtractConfig) -> tuple[Card, TrainableCodec]:
    """The codec with as many codebooks as are asked for.

    Raises:
        CheckpointError: as `load_codec`.
        ConfigError: when it has fewer, or cannot do with fewer.
    """
    folder = config.codec_folder
    card, codec = load_codec(folder)
    return card, with_first_codebooks(codec, config.num_codebooks or codec.num_codebooks, str(folder))


def _opened(config: ExtractConfig, run: Running) -> _Extraction:
    kind, folder = config.corpus
    corpus = read_manifest(folder, kind)
    card, codec = shallow_codec(config)  # here too: a task that cannot start comes late
    _refuse_other_rate(folder, corpus, codec.sample_rate_hz)
    parents = {"codec": card.hash, kind: corpus.hash, "tokenizer": config.text_tokenizer.digest()}
    # What a row holds: tokens of an older version are others, and made again.
    recipe = {
        "num_codebooks": codec.num_codebooks,
        "stop_s": config.stop_s,
        "columns": SCHEMAS["tokens"].names,
    }
    if config.other_voices:  # a recipe from before keeps its hash
        recipe["other_voices"] = config.other_voices
    digest = hashlib.sha256(json.dumps([recipe, parents], sort_keys=True).encode()).hexdigest()
    key = WorkKey(recipe=digest, listing=corpus.hash, part_minutes=0, code=_code_sha256())
    return _Extraction(
        config.model_copy(update={"codec": config.codec_folder}),
        corpus,
        key,
        parents,
        recipe,
        codec.frame_rate_hz,
        Place.of(config.out),
        run,
    )


def _refuse_other_rate(folder: str, corpus: Manifest, rate_hz: int) -> None:
    """By the first row: all are built at one rate, and the others' sound is checked as it is read."""
    job, setting = BUILT_BY[corpus.kind]
    shard = next((shard for shard in corpus.shards if shard.rows), None)
    if shard is None:
        raise CorpusError(f"{folder} holds no {corpus.kind}; build some with {job}")
    found = ShardSet(folder, corpus.kind, shard.split).rows([0])[0]["sample_rate_hz"]
    if found != rate_hz:
        raise CorpusError(
            f"{folder} is sampled at {found} Hz, the codec takes {rate_hz} Hz; build the {corpus.kind} with "
            f"{setting}={rate_hz}"
        )


@functools.cache
def _code_sha256() -> str:
    """Names the code that makes rows: another version's shards are no part of this folder."""
    files = (
        Path(str(module.__file__)).read_bytes()
        for module in (making, listening, voicing, stopping, tokenizing)
    )
    return hashlib.sha256(b"".join(files)).hexdigest()


def _extract(extraction: _Extraction, ownership: Ownership) -> Extracted:
    done = _write(extraction, ownership.id)
    ownership.refuse_lost()
    refuse_changed(extraction.out, [outcome.shard for outcome in done])
    rate_hz = extraction.frame_rate_hz
    manifest = Manifest(
        kind="tokens",
        config_sha256=extraction.key.recipe,
        recipe=extraction.recipe,
        parents=extraction.parents,
        shards=tuple(outcome.shard for outcome in done),
        hours={split: hours((o.frames for o in done if o.shard.split == split), rate_hz) for split in SPLITS},
    )
    write_manifest(extraction.out, manifest)
    ownership.remove_work()
    return Extracted(manifest, _hours_per_minute(done))


def _hours_per_minute(done: Sequence[ShardOutcome]) -> float:
    """Hours a minute are minutes a second."""
    made_s, took_s = (sum(seconds) for seconds in zip(*((o.audio_s, o.took_s) for o in done), strict=True))
    return round(made_s / SECONDS_PER_MINUTE / took_s, 3)


def _write(extraction: _Extraction, owner: str) -> list[ShardOutcome]:
    config, out, parents = extraction.config, extraction.out, extraction.parents
    plans = [
        ShardPlan(source=source, codec=parents["codec"], tokenizer=parents["tokenizer"])
        for source in sources(config.corpus[1], extraction.corpus)
    ]
    sweep(out, keep={shard_name(plan.source.split, plan.source.number) for plan in plans})
    stamps = out.stamps()

    def holds(text: str) -> bool:
        shard = ShardOutcome.model_validate_json(text).shard
        return is_there(stamps, shard.path, shard.num_bytes)

    # Outcomes of one key are never taken for another's.
    outcomes = out / WORK / OUTCOMES / extraction.key.digest()[:HASH_DIGITS]
    done = extraction.run(
        [plan.model_dump_json() for plan in plans],
        functools.partial(_write_task, config=config.model_dump_json(), owner=owner),
        outcomes.where,
        "tokens",
        cpus_per_task=config.cpus_per_task,
        measure=_measure,
        holds=holds,
    )
    return [ShardOutcome.model_validate_json(text) for text in done]


def _measure(outcome: str) -> Measure:
    return Measure(audio_s=json.loads(outcome)["audio_s"])


def _write_task(text: str, *, config: str, owner: str) -> str:
    """One task."""
    settings, plan = ExtractConfig.model_validate_json(config), ShardPlan.model_validate_json(text)
    work = Place.of(settings.out) / WORK
    refuse_lost(work, owner)
    outcome = write_tokens(plan, settings)
    refuse_lost(work, owner)
    return outcome.model_dump_json()


def write_tokens(plan: ShardPlan, config: ExtractConfig) -> ShardOutcome:
    """Code the rows of one shard, in the same order, a batch at a time.

    Raises:
        CorpusError: when the dialogues or the codec were exchanged, or a shard cannot be read.
        AudioError: when a row's sound cannot be decoded or is of another rate than the codec's.
        StorageError: when the place cannot be written.
    """
    began, source, frames = time.monotonic(), plan.source, 0
    codec, tokenizer = _parts(config.model_dump_json(), plan.codec, plan.tokenizer)

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal frames
        dialogues = _rows(source, config.corpus[0])
        if config.utterances is not None:
            dialogues = (listened(row, tokenizer, codec.frame_rate_hz) for row in dialogues)
        if config.other_voices and source.split == "train":
            dialogues = _in_voices(dialogues, config.other_voices)
        for row in rows_of_tokens(dialogues, codec, tokenizer, config.batch_s, config.stop_s):
            frames += row["num_frames"]
            yield row

    shard = write_shard(config.out, "tokens", source.split, source.number, rows())
    took_s = time.monotonic() - began
    return ShardOutcome(shard=shard, frames=frames, audio_s=frames / codec.frame_rate_hz, took_s=took_s)


def _in_voices(dialogues: Iterable[dict[str, Any]], more: int) -> Iterator[dict[str, Any]]:
    for row in dialogues:
        yield row
        yield from (other_voice(row, number) for number in range(1, more + 1))


@functools.lru_cache(maxsize=1)
def _parts(config: str, codec_hash: str, tokenizer_digest: str) -> tuple[TrainableCodec, TextTokenizer]:
    """One a worker process."""
    settings = ExtractConfig.model_validate_json(config)
    (card, codec), tokenizer = shallow_codec(settings), settings.text_tokenizer
    if (card.hash, tokenizer.digest()) != (codec_hash, tokenizer_digest):
        raise CorpusError(
            f"codec or tokenizer ({card.hash}, {tokenizer.digest()}) are not those that this began with "
            f"({codec_hash}, {tokenizer_digest}); give every node the same files, and start again"
        )
    return codec, tokenizer


def _rows(source: Rows, kind: Kind) -> Iterator[dict[str, Any]]:
    """One at a time: a shard's sound never lies in memory as a whole."""
    corpus = ShardSet(source.corpus, kind, source.split)
    if corpus.manifest.hash != source.corpus_hash:
        raise CorpusError(
            f"{source.corpus} is another corpus ({corpus.manifest.hash}) than when this began "
            f"({source.corpus_hash}); start the extraction again"
        )
    for index in range(source.first, source.first + source.rows):
        yield corpus.rows([index])[0]
