"""Judging a codec on clips: what it does to the sound, how much it uses of its codebooks, what it costs.

Everything is compared at 16 kHz, where PESQ, STOI and the recogniser are at home. A codec of ours is moved
back by its `delay_samples`; one of others by what a cross-correlation over all clips finds.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from paluku import audio
from paluku.codec.port import Codec
from paluku.errors import EvaluationError
from paluku.evals import align, sound
from paluku.evals.baselines import Baseline, Coded
from paluku.evals.clips import Clip, Ignored
from paluku.evals.codebooks import CodebookUse
from paluku.evals.judges import Judges, Key, Pair
from paluku.evals.rows import Common, Row, Take, by_language, by_speaker
from paluku.evals.speed import Speed, real_time_factors
from paluku.shapes import Codes

RATE_HZ = sound.RATE_HZ
BATCH_SEATS = 16
# Speech that costs are measured on.
SPEED_S = 20.0
# A frame of the original below is a pause.
SPEECH_RMS = 10 ** (-45 / 20)


@dataclass
class Judgement:
    """Rows by language and by speaker, what had no number and why, and decoded clips to hear.

    `waves` are float32 `[S]` at 16 kHz, aligned: by clip (`key_of`), then by codec and rate
    (`lyra 3.2 kbps`). What is NaN or infinite is silent in them.
    """

    rows: list[Row] = field(default_factory=list)
    speakers: list[Row] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)
    waves: dict[Key, dict[str, np.ndarray]] = field(default_factory=dict)

    def add(self, other: "Judgement") -> None:
        """Take in what was judged of another codec, or of this one at another rate."""
        self.rows += other.rows
        self.speakers += other.speakers
        self.ignored += other.ignored
        for key, waves in other.waves.items():
            self.waves.setdefault(key, {}).update(waves)


@dataclass(frozen=True)
class Options:
    """`keep`: how many of the first clips are kept to hear. `step` is called for each clip at each rate."""

    keep: int = 0
    step: Callable[[], None] = lambda: None
    measures_speed: bool = True


def key_of(clip: Clip) -> Key:
    """What tells a clip from all others: an id alone may come again in another source."""
    return clip.source, clip.id


def judge(
    codec: Codec,
    name: str,
    clips: Sequence[Clip],
    depths: Sequence[int],
    judges: Judges,
    options: Options = Options(),
) -> Judgement:
    """A codec of ours at each depth, as it is served: one that can be `folded` is.

    Use and perplexity of the first `depth` codebooks, over all frames of all clips, stand in the rows of
    all languages; `perplexity_speech` is over the frames whose original is above -45 dB full scale.

    Raises:
        EvaluationError: when there are no clips.
    """
    _check(clips)
    codec = served(codec)
    use, in_speech = (CodebookUse(codec.num_codebooks, codec.codebook_size) for _ in range(2))
    with torch.inference_mode():
        coded = [_encoded(codec, clip, use, in_speech) for clip in clips]
    alone, batch = speeds(codec, clips, depths) if options.measures_speed else (None, None)
    judgement = Judgement()
    for depth in depths:
        kbps = depth * math.log2(codec.codebook_size) * codec.frame_rate_hz / 1000
        pairs = (_pair(codec, clip, codes[:, :depth]) for clip, codes in zip(clips, coded, strict=True))
        columns = {"depth": depth, **_costs("", alone, depth), **_costs("_batch", batch, depth)}
        used = {
            "frames": use.frames,
            "share_used": use.share_used()[:depth],
            "perplexity": use.perplexity()[:depth],
            "perplexity_speech": in_speech.perplexity()[:depth] if in_speech.frames else None,
        }
        told = _Told(Common(name, codec.sample_rate_hz, columns), [kbps] * len(clips), used)
        judgement.add(_judged(told, clips, pairs, judges, options))
    return judgement


def judge_baseline(
    baseline: Baseline,
    clips: Sequence[Clip],
    judges: Judges,
    options: Options = Options(),
) -> Judgement:
    """A codec of others at its one rate; its real-time factors are CPU time over all clips.

    Raises:
        EvaluationError: when there are no clips, or it cannot run here (`why_absent` tells before).
    """
    _check(clips)
    originals = [_original(clip) for clip in clips]
    coded = [baseline.code(original) for original in originals]
    waves = [one.wave for one in coded]
    whole = [pair for pair in zip(originals, waves, strict=True) if np.isfinite(pair[1]).all()]
    lag = align.lag_samples(whole, round(align.MOST_LAG_S * RATE_HZ))
    pairs = (
        Pair(key_of(clip), clip.language, clip.text, original, align.moved(wave, lag, len(original)))
        for clip, original, wave in zip(clips, originals, waves, strict=True)
    )
    told = _Told(Common(baseline.name, RATE_HZ, _cpu_shares(coded, originals)), [c.kbps for c in coded], {})
    return _judged(told, clips, pairs, judges, options)


@dataclass(frozen=True)
class _Told:
    """What the rows say beside what is judged; `kbps` is of each clip."""

    common: Common
    kbps: Sequence[float]
    of_all: dict[str, object]


def _judged(
    told: _Told, clips: Sequence[Clip], pairs: Iterator[Pair], judges: Judges, options: Options
) -> Judgement:
    heard: dict[Key, np.ndarray] = {}
    found = list(judges.judged(_kept(pairs, heard, options.keep), options.step))
    takes = [Take(*of_clip) for of_clip in zip(clips, told.kbps, found, strict=True)]
    rows = by_language(told.common, takes, told.of_all)
    label = f"{told.common.name} {rows[-1].kbps:g} kbps"
    ignored = [one for take in takes for one in _ignored(take, label)]
    waves = {key: {label: wave} for key, wave in heard.items()}
    return Judgement(rows, by_speaker(told.common, takes), ignored, waves)


def _kept(pairs: Iterator[Pair], heard: dict[Key, np.ndarray], keep: int) -> Iterator[Pair]:
    for pair in pairs:
        if len(heard) < keep:
            heard[pair.key] = np.nan_to_num(pair.decoded, posinf=0.0, neginf=0.0)
        yield pair


def _ignored(take: Take, label: str) -> Iterator[Ignored]:
    for metric, reason in take.judged.reasons.items():
        yield Ignored(take.clip.id, f"no {metric}", f"{label}: {reason}")


def _check(clips: Sequence[Clip]) -> None:
    if not clips:
        raise EvaluationError("there are no clips to judge; give recordings of a second or more")


@runtime_checkable
class _Foldable(Protocol):
    def folded(self) -> Codec: ...


def served(codec: Codec) -> Codec:
    """With weight norm multiplied out where there is any: nothing else is served, and it costs less."""
    return codec.folded() if isinstance(codec, _Foldable) else codec


def _encoded(codec: Codec, clip: Clip, use: CodebookUse, in_speech: CodebookUse) -> Codes:
    """Codes `[1, K, T]` of the clip and as much silence as its end needs to come out."""
    wave = audio.resample(clip.wave, clip.rate_hz, codec.sample_rate_hz)
    frame = codec.frame_samples
    length = len(wave) + codec.delay_samples
    padded = np.pad(wave, (0, length + -length % frame - len(wave)))
    codes = codec.encode(torch.from_numpy(padded.astype(np.float32))[None, None])
    frames = -(-len(wave) // frame)
    heard = codes[..., :frames]
    use.count(heard)
    squares = np.square(padded[: frames * frame], dtype=np.float64).reshape(frames, frame)
    in_speech.count(heard[..., torch.from_numpy(squares.mean(axis=1) > SPEECH_RMS**2)])
    return codes


def _pair(codec: Codec, clip: Clip, codes: Codes) -> Pair:
    original = _original(clip)
    with torch.inference_mode():
        decoded = codec.decode(codes)[0, 0].float().cpu().numpy()
    in_time = decoded[codec.delay_samples :]
    at_16k = audio.resample(in_time, codec.sample_rate_hz, RATE_HZ)
    return Pair(key_of(clip), clip.language, clip.text, original, align.moved(at_16k, 0, len(original)))


def _original(clip: Clip) -> np.ndarray:
    return audio.resample(clip.wave, clip.rate_hz, RATE_HZ).astype(np.float32)


def speeds(codec: Codec, clips: Sequence[Clip], depths: Sequence[int]) -> tuple[Speed, Speed]:
    """What a codec costs on the first clips' speech: one stream alone, and one among 16."""
    rate_hz = codec.sample_rate_hz
    waves = [audio.resample(clip.wave, clip.rate_hz, rate_hz) for clip in clips[:BATCH_SEATS]]
    speech = np.concatenate(waves)[: round(SPEED_S * rate_hz)].astype(np.float32)
    return (
        real_time_factors(codec, speech, depths),
        real_time_factors(codec, speech, depths, seats=BATCH_SEATS),
    )


def _costs(kind: str, speed: Speed | None, depth: int) -> dict[str, float | None]:
    return {
        f"rtf_encode{kind}": speed and speed.encode,
        f"rtf_decode{kind}": speed and speed.decode[depth],
    }


def _cpu_shares(coded: Sequence[Coded], originals: Sequence[np.ndarray]) -> dict[str, float]:
    seconds = sum(len(original) for original in originals) / RATE_HZ
    return {
        "rtf_encode": sum(one.encode_s for one in coded) / seconds,
        "rtf_decode": sum(one.decode_s for one in coded) / seconds,
    }
