"""What was judged, as rows: one a language and depth, one for all languages, one a speaker."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pydantic import Field

from paluku.config import Config
from paluku.evals.clips import Clip
from paluku.evals.judges import Judged

ALL = "all"
PCM_BITS = 16


class Row(Config):
    """Means over clips; None where no judge gave a number.

    `kbps` is what is sent; of a codec with a variable rate, what was on average. Real-time factors are CPU
    time of one stream over its length: `rtf_…` of a stream alone, `rtf_…_batch` of one among 16. Decoding is
    of `depth` codebooks, encoding at any depth of all that the codec was opened with.
    `judged` tells, of a metric that not every clip has, how many do.
    """

    name: str
    kbps: float
    language: str
    clips: int
    pesq: float | None = None
    stoi: float | None = None
    si_sdr_db: float | None = None
    visqol: float | None = None
    speaker_cosine: float | None = None
    rtf_encode: float | None = None
    rtf_decode: float | None = None

    speaker: str | None = None
    depth: int | None = None
    seconds: float = 0.0
    mel_distance: float | None = None
    cer_romanised: float | None = None
    cer_original: float | None = None
    cer_to_original: float | None = None
    compression_ratio: float | None = None
    rtf_encode_batch: float | None = None
    rtf_decode_batch: float | None = None
    frames: int | None = None
    share_used: tuple[float, ...] | None = None
    perplexity: tuple[float, ...] | None = None
    perplexity_speech: tuple[float, ...] | None = None  # without pauses, which take few entries
    judged: dict[str, int] = Field(default_factory=dict)


class Take(NamedTuple):
    """One clip through one codec at one rate."""

    clip: Clip
    kbps: float
    judged: Judged


class Common(NamedTuple):
    """What all rows of a codec at one rate share: its name, its rate in Hz, and further columns."""

    name: str
    rate_hz: int
    columns: Mapping[str, float | int | None]


def by_language(common: Common, takes: Sequence[Take], of_all: Mapping[str, object]) -> list[Row]:
    """A row a language, sorted, and one of all, which alone has the columns `of_all`."""
    languages = sorted({take.clip.language for take in takes})
    rows = [
        _row(common, [take for take in takes if take.clip.language == language], language=language)
        for language in languages
    ]
    return [*rows, _row(common, takes, language=ALL, **of_all)]


def by_speaker(common: Common, takes: Sequence[Take]) -> list[Row]:
    """A row a speaker of a language, sorted."""
    who = sorted({(take.clip.language, take.clip.speaker) for take in takes})
    return [
        _row(
            common,
            [take for take in takes if (take.clip.language, take.clip.speaker) == (language, speaker)],
            language=language,
            speaker=speaker,
        )
        for language, speaker in who
    ]


def _row(common: Common, takes: Sequence[Take], **columns: object) -> Row:
    seconds = sum(take.clip.seconds for take in takes)
    kbps = sum(take.kbps * take.clip.seconds for take in takes) / seconds
    values = _values(take.judged for take in takes)
    return Row.model_validate(
        {
            "name": common.name,
            "kbps": round(kbps, 3),
            "clips": len(takes),
            "seconds": round(seconds, 3),
            "compression_ratio": PCM_BITS * common.rate_hz / 1000 / kbps,
            "judged": {name: len(found) for name, found in values.items() if len(found) < len(takes)},
            **{name: sum(found) / len(found) for name, found in values.items()},
            **common.columns,
            **columns,
        }
    )


def _values(judged: Iterable[Judged]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in judged:
        for name, value in one.values.items():
            found.setdefault(name, []).append(value)
    return found
