"""From a clean voice to what a microphone and a line make of it: the user's side of a dialogue.

The voice in its room, the echo of the reply from a loudspeaker, and noise, each through the line's band and
then at its level: what was drawn is what is heard behind the line. The reply's own channel is never touched.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from pydantic import Field, model_validator
from scipy.signal import butter, sosfilt

from paluku.config import Config
from paluku.corpus.dialogues import noises
from paluku.corpus.dialogues.rooms import Room, draw_room, impulse_response, reverberant
from paluku.corpus.dialogues.timing import Span

NoiseKind = Literal["pink", "babble", "hum", "recorded"]
Band = Literal["full", "telephone", "4k", "8k"]

TELEPHONE_HZ = (300.0, 3400.0)  # ITU-T G.712
FILTER_ORDER = 4
PEAK = 0.98


class Augmentation(Config):
    """What may happen to the user's side, and how often; all spans are uniform."""

    speed: Span = (0.92, 1.08)
    level_dbfs: Span = (-35.0, -18.0)  # of the speech
    noise_share: float = Field(default=0.7, ge=0, le=1)
    snr_db: Span = (5.0, 30.0)
    noises: dict[NoiseKind, float] = Field(default={"pink": 0.5, "babble": 0.35, "hum": 0.15})
    noise_folder: Path | None = None  # recordings, for noises that are "recorded"
    room_share: float = Field(default=0.5, ge=0, le=1)
    rt60_s: Span = (0.15, 0.6)
    distance_m: Span = (0.3, 2.5)
    bands: dict[Band, float] = Field(default={"full": 0.55, "telephone": 0.2, "4k": 0.1, "8k": 0.15})
    echo_share: float = Field(default=0.15, ge=0, le=1)  # the reply heard by the user's microphone
    echo_db: Span = (-40.0, -18.0)  # below the user's own level
    echo_delay_s: Span = (0.02, 0.15)

    @model_validator(mode="after")
    def _fits(self) -> "Augmentation":
        for name in ("speed", "level_dbfs", "snr_db", "rt60_s", "distance_m", "echo_db", "echo_delay_s"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name} {least} to {most} must name the lesser first")
        if not 0.5 <= self.speed[0] <= self.speed[1] <= 2:
            raise ValueError(f"speed {self.speed} must lie between 0.5 and 2")
        if self.rt60_s[0] < 0.1 or self.distance_m[0] < 0.1 or self.echo_delay_s[0] < 0:
            raise ValueError("rt60_s and distance_m begin at 0.1 or more, echo_delay_s at 0 or more")
        for name in ("noises", "bands"):
            weights = getattr(self, name).values()
            if min(weights, default=0) < 0 or not sum(weights):
                raise ValueError(f"{name} needs weights of 0 or more, not all of them 0")
        if self.noises.get("recorded") and self.noise_folder is None:
            raise ValueError('noises name "recorded"; set noise_folder to a folder of recordings')
        return self


class Noise(Config):
    """What noise there is."""

    kind: NoiseKind
    snr_db: float
    file: str | None = None  # below noise_folder


class Echo(Config):
    """How the reply comes back."""

    level_db: float
    delay_s: float


class Drawn(Config):
    """What was drawn for one dialogue."""

    speed: float
    level_dbfs: float
    band: Band
    noise: Noise | None
    room: Room | None
    echo: Echo | None


class Channels(NamedTuple):
    """The dry sound of both sides, float32 `[S]` each, and where the user speaks (bool `[S]`)."""

    user: np.ndarray
    reply: np.ndarray
    speaking: np.ndarray


class Heard(NamedTuple):
    """The user's channel as it arrives."""

    wave: np.ndarray  # float32 [S], within full scale
    gain_db: float  # 0, or less where everything was turned down so as not to clip


Name = TypeVar("Name", bound=str)

# Speaking babble costs time: it is asked for where it is heard.
Babble = Callable[[], list[np.ndarray]]


def draw(settings: Augmentation, random: np.random.Generator) -> Drawn:
    """All that is drawn for a dialogue, in a fixed order.

    Raises:
        CorpusError: when the folder of noises holds none.
    """

    def uniform(span: Span) -> float:
        return round(float(random.uniform(*span)), 3)

    def happens(share: float) -> bool:
        return bool(random.random() < share)

    is_noisy, is_in_room, has_echo = map(
        happens, (settings.noise_share, settings.room_share, settings.echo_share)
    )
    return Drawn(
        speed=uniform(settings.speed),
        level_dbfs=uniform(settings.level_dbfs),
        band=_weighted(settings.bands, random),
        noise=_noise(settings, uniform(settings.snr_db), random) if is_noisy else None,
        room=draw_room(uniform(settings.rt60_s), uniform(settings.distance_m), random)
        if is_in_room
        else None,
        echo=Echo(level_db=uniform(settings.echo_db), delay_s=uniform(settings.echo_delay_s))
        if has_echo
        else None,
    )


def augmented(
    dry: Channels,
    drawn: Drawn,
    rate_hz: int,
    random: np.random.Generator,
    babblers: Babble,
    noise_folder: Path | None = None,
) -> Heard:
    """The user's channel: its speech is at `level_dbfs` and the gain, the rest as far below as was drawn.

    Raises:
        AudioError: when a babbler cannot speak, or a recording of noise cannot be decoded.
    """
    response = impulse_response(drawn.room, rate_hz) if drawn.room else None
    wave = reverberant(dry.user, response) if response is not None else dry.user
    wave = band_limited(wave, drawn.band, rate_hz)
    level = 10 ** (drawn.level_dbfs / 20)
    wave = wave * np.float32(level / _rms(wave[dry.speaking]))
    if drawn.echo:
        echo = _echo(dry.reply, drawn.echo.delay_s, response, drawn.band, rate_hz)
        wave = wave + echo * np.float32(level * 10 ** (drawn.echo.level_db / 20))
    if drawn.noise:
        noise = _noise_wave(drawn.noise, len(wave), rate_hz, random, babblers, noise_folder)
        noise = noises.at_unit_power(band_limited(noise, drawn.band, rate_hz))
        wave = wave + noise * np.float32(level * 10 ** (-drawn.noise.snr_db / 20))
    gain = min(1.0, PEAK / max(float(np.abs(wave).max()), PEAK))
    return Heard((wave * np.float32(gain)).astype(np.float32), round(20 * math.log10(gain), 3))


def band_limited(wave: np.ndarray, band: Band, rate_hz: int) -> np.ndarray:
    """The wave `[S]` after a line of that band; a band that the rate does not reach changes nothing."""
    if band == "telephone":
        sos = butter(FILTER_ORDER, TELEPHONE_HZ, "bandpass", fs=rate_hz, output="sos")
    elif band == "full" or (top_hz := {"4k": 4000.0, "8k": 8000.0}[band]) >= 0.99 * rate_hz / 2:
        return wave
    else:
        sos = butter(2 * FILTER_ORDER, top_hz, "lowpass", fs=rate_hz, output="sos")
    return np.asarray(sosfilt(sos, wave), np.float32)


def _echo(
    reply: np.ndarray, delay_s: float, response: np.ndarray | None, band: Band, rate_hz: int
) -> np.ndarray:
    """The reply late, in the room and through the line, with a root mean square of 1 where it sounds."""
    delay = min(round(delay_s * rate_hz), len(reply))
    heard = np.pad(reply, (delay, 0))[: len(reply)]
    if response is not None:
        heard = reverberant(heard, response)
    sounds = heard != 0  # a filter rings on for ever
    heard = band_limited(heard, band, rate_hz)
    return heard / np.float32(_rms(heard[sounds]))


def _noise(settings: Augmentation, snr_db: float, random: np.random.Generator) -> Noise:
    kind = _weighted(settings.noises, random)
    file = None
    if kind == "recorded" and settings.noise_folder is not None:
        files = noises.noise_files(settings.noise_folder)
        file = files[int(random.integers(len(files)))].relative_to(settings.noise_folder).as_posix()
    return Noise(kind=kind, snr_db=snr_db, file=file)


def _noise_wave(
    noise: Noise,
    samples: int,
    rate_hz: int,
    random: np.random.Generator,
    babblers: Babble,
    folder: Path | None,
) -> np.ndarray:
    if noise.kind == "recorded":
        assert folder is not None and noise.file is not None, "a recorded noise has a file"  # noqa: PT018
        return noises.recorded(samples, folder / noise.file, rate_hz, random)
    if noise.kind == "babble":
        return noises.babble(samples, babblers(), random)
    return noises.pink(samples, random) if noise.kind == "pink" else noises.hum(samples, rate_hz, random)


def _weighted(weights: Mapping[Name, float], random: np.random.Generator) -> Name:
    names = sorted(weights)
    shares = np.array([weights[name] for name in names], float)
    return names[int(random.choice(len(names), p=shares / shares.sum()))]


def _rms(wave: np.ndarray) -> float:
    return float(np.sqrt(np.square(wave, dtype=np.float64).mean())) + 1e-9 if len(wave) else 1.0
