"""Sound out of any file: audio through soundfile, video and everything else through PyAV (FFmpeg).

Blocks are mixed to mono and resampled as they are read, so that memory holds one stretch at the target
rate and no more, however long or wide the file is.
"""

import contextlib
import io
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import soundfile
import soxr
from av.container import InputContainer
from av.error import FFmpegError

from paluku.audio import MAX_RATE_HZ, MAX_SAMPLE, MIN_RATE_HZ
from paluku.corpus.preparation.quality import UnusableError
from paluku.corpus.storage import Place, is_uri
from paluku.corpus.utterance import Utterance
from paluku.errors import CorpusError, StorageError

# libsndfile reads these block by block as it reads them at once; what it refuses is tried with FFmpeg too.
SOUND_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf"})
# Not so MP3: soundfile seeks after every block, and a decoder that seeks has lost the bits that frames borrow
# from earlier ones (7 % of the samples were wrong). FFmpeg's decoder gives the same samples as libsndfile's.
MP3 = ".mp3"
MEDIA_SUFFIXES = SOUND_SUFFIXES | {
    MP3,
    *(".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".3gp", ".flv"),
    *(".m4a", ".m4b", ".aac", ".wma", ".amr", ".mka", ".weba"),
}
COPY_BYTES = 1 << 20
BLOCK_FRAMES = 65_536  # 1.4 s at 48 kHz: large enough that the resampler's calls cost nothing
# A 16-bit converter's last step; lossy formats overshoot it, so it is no equality.
FULL_SCALE = 0.999
# Two hours at 16 kHz are 460 MB; a longer file is listed as several stretches (start_s, end_s).
MAX_S = 7_200.0
# A decoder that starts in the middle needs this much before its output is exact (Opus: 80 ms, AAC: 2 frames).
PREROLL_S = 0.5
# A file that gives this much less sound than its header says has lost some, and its transcript says more than
# is heard. Both must be passed: headers count the codec's padding, and tags whole frames.
SHORT_S, SHORT_SHARE = 0.5, 0.02
LENGTH_TAG = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")  # Matroska's DURATION
MP3_COUNTS = (b"Xing", b"Info", b"VBRI")
MP3_FRAME_BYTES = 4096  # the first frame, and some padding before it
OGG_HEADER_BYTES, OGG_PAGE_BYTES = 27, 65_307  # the latter at most


@dataclass(frozen=True)
class Decoded:
    """A stretch of sound: `wave` is float32 `[S]`, mono at the rate asked for; the rest tells of the file."""

    wave: np.ndarray
    source_rate_hz: int
    channels: int
    clipped_share: float  # of the file's own samples at full scale, in any channel


@dataclass(frozen=True)
class _Stream:
    """What both readers give: blocks float32 `[n, C]` at the file's own rate, the stretch only."""

    rate_hz: int
    channels: int
    blocks: Iterator[np.ndarray]
    said_s: float | None  # how long the stretch must be by the header; none where that does not say


def decode(utterance: Utterance, rate_hz: int, max_s: float = MAX_S) -> Decoded:
    """The stretch `start_s` to `end_s` of the utterance's file, mono, resampled at soxr's "HQ".

    Raises:
        UnusableError: "missing", "broken" (cannot be decoded, is shorter than its header says, unusable
            rate, NaN), "no_sound" (no audio stream, or no samples in the stretch), "too_long" (more than
            `max_s`).
        StorageError: when the store that it lies in is out of reach.
    """
    assert utterance.path is not None, f"{utterance.id} has no file to decode"
    with _opened(utterance.path) as file:
        try:
            return _decode(file, utterance, rate_hz, max_s)
        # OSError is what PyAV makes of an empty file; a store's file was copied before, and is open here.
        except (soundfile.LibsndfileError, FFmpegError, RuntimeError, OSError, EOFError, ValueError) as error:
            raise UnusableError("broken", _plain(error)) from error


def duration_s(path: str) -> float:
    """From the header of a local file; 0 where there is none to read (the worker will say why)."""
    if is_uri(path):
        return 0.0  # a look at every header of a bucket costs more than it tells
    try:
        if Path(path).suffix.lower() in SOUND_SUFFIXES | {MP3}:
            return float(soundfile.info(path).duration)
        with av.open(path, metadata_errors="ignore") as container:  # tags may be in any encoding
            return (container.duration or 0) / av.time_base
    except (soundfile.LibsndfileError, FFmpegError, OSError, ValueError):
        return 0.0


def _decode(file: BinaryIO, utterance: Utterance, rate_hz: int, max_s: float) -> Decoded:
    assert utterance.path is not None
    _refuse_cut_ogg(file)
    suffix = Path(utterance.path).suffix.lower()
    if suffix not in SOUND_SUFFIXES:
        return _decode_container(file, utterance, rate_hz, max_s)
    try:
        sound = soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, RuntimeError):
        file.seek(0)
        return _decode_container(file, utterance, rate_hz, max_s)
    with sound:
        said_s = _in_stretch(sound.frames / sound.samplerate, utterance)
        stream = _Stream(sound.samplerate, sound.channels, _sound_blocks(sound, utterance), said_s)
        return _gather(stream, rate_hz, max_s)


def _decode_container(file: BinaryIO, utterance: Utterance, rate_hz: int, max_s: float) -> Decoded:
    is_counted = _has_mp3_count(file)
    with av.open(file, mode="r", metadata_errors="ignore") as container:
        if not container.streams.audio:
            raise UnusableError("no_sound", f"{utterance.path} has no audio stream")
        audio = container.streams.audio[0]
        blocks = _container_blocks(container, audio, utterance)
        said_s = _in_stretch(_said_s(container, audio, is_counted=is_counted), utterance)
        codec = audio.codec_context
        return _gather(_Stream(codec.sample_rate, codec.channels, blocks, said_s), rate_hz, max_s)


def _in_stretch(whole_s: float | None, utterance: Utterance) -> float | None:
    if whole_s is None:
        return None
    end_s = whole_s if utterance.end_s is None else min(utterance.end_s, whole_s)
    return end_s - utterance.start_s


def _said_s(container: InputContainer, audio: av.AudioStream, *, is_counted: bool) -> float | None:
    """Length of the sound by the header; none where FFmpeg estimates it from the file's size."""
    kinds = container.format.name.split(",")
    began_s = float((audio.start_time or 0) * (audio.time_base or 0))
    whole_s = container.duration / av.time_base if container.duration else None
    if "matroska" in kinds:
        # The header's length is that of the picture too; a track's own is in its tags.
        if tag := LENGTH_TAG.fullmatch(audio.metadata.get("DURATION", "")):
            hours, minutes, seconds = map(float, tag.groups())
            return hours * 3600 + minutes * 60 + seconds - began_s
        return whole_s - began_s if whole_s and len(container.streams) == 1 else None
    if audio.duration is None or audio.time_base is None:
        return None
    sound_s = float(audio.duration * audio.time_base)
    if "mp4" in kinds:
        return min(sound_s, whole_s or sound_s)  # an edit list may leave out some of what the track holds
    return sound_s if "ogg" in kinds or ("mp3" in kinds and is_counted) else None


def _has_mp3_count(file: BinaryIO) -> bool:
    """Whether an MP3's first frame counts them all; without that its length is a guess from the bit rate."""
    head = file.read(10)
    if head[:3] == b"ID3" and len(head) == 10:
        # The size of the tags: four bytes of seven bits (ID3v2.4, 3.1).
        file.seek(10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)))
        head = b""
    head += file.read(MP3_FRAME_BYTES)
    file.seek(0)
    return any(name in head for name in MP3_COUNTS)


def _refuse_cut_ogg(file: BinaryIO) -> None:
    """Ogg says no length ahead, but that of each page (RFC 3533, 6): a file that was cut off ends in one."""
    if file.read(4) == b"OggS":
        file.seek(0, io.SEEK_END)
        file.seek(max(0, file.tell() - 2 * OGG_PAGE_BYTES))
        tail = file.read()
        start = tail.rfind(b"OggS\0")
        if start >= 0 and _is_cut_page(tail[start:]):
            raise UnusableError("broken", "the file is cut off within a page; fetch it again")
    file.seek(0)


def _is_cut_page(page: bytes) -> bool:
    if len(page) < OGG_HEADER_BYTES:
        return True
    count = page[OGG_HEADER_BYTES - 1]  # of segments, whose lengths follow
    lengths = page[OGG_HEADER_BYTES : OGG_HEADER_BYTES + count]
    return len(page) < OGG_HEADER_BYTES + count + sum(lengths)


def _sound_blocks(sound: soundfile.SoundFile, utterance: Utterance) -> Iterator[np.ndarray]:
    start = round(utterance.start_s * sound.samplerate)
    if start:
        sound.seek(min(start, sound.frames))
    left = (
        sound.frames - start if utterance.end_s is None else round(utterance.end_s * sound.samplerate) - start
    )
    while left > 0:
        block = sound.read(min(left, BLOCK_FRAMES), dtype="float32", always_2d=True)
        if not len(block):
            return
        left -= len(block)
        yield block


def _container_blocks(
    container: InputContainer, audio: av.AudioStream, utterance: Utterance
) -> Iterator[np.ndarray]:
    """Decoded frames, cut to the stretch by their time stamps."""
    rate_hz = audio.codec_context.sample_rate
    began_s = float((audio.start_time or 0) * (audio.time_base or 0))
    if utterance.start_s > PREROLL_S:
        container.seek(round((utterance.start_s - PREROLL_S + began_s) * av.time_base))
    start = round(utterance.start_s * rate_hz)
    end = None if utterance.end_s is None else round(utterance.end_s * rate_hz)
    resampler = av.AudioResampler(format="fltp")  # of the sample format only: layout and rate stay
    place: int | None = None
    for frame in container.decode(audio):
        if place is None:  # only the first stamp is trusted: later ones are rounded to milliseconds in some
            place = round(((frame.time or 0.0) - began_s) * rate_hz)
        for part in resampler.resample(frame):
            block = part.to_ndarray().T
            first, last = max(start - place, 0), len(block) if end is None else min(end - place, len(block))
            place += len(block)
            if last > first:
                yield block[first:last]
        if end is not None and place >= end:
            return


def _gather(stream: _Stream, rate_hz: int, max_s: float) -> Decoded:
    if not MIN_RATE_HZ <= stream.rate_hz <= MAX_RATE_HZ:
        raise UnusableError(
            "broken", f"rate of {stream.rate_hz} Hz; {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz can be used"
        )
    resampler = soxr.ResampleStream(stream.rate_hz, rate_hz, 1, dtype="float32", quality="HQ")
    wave, frames, clipped = _Growing(rate_hz), 0, 0
    for block in stream.blocks:
        level = np.abs(block).max(axis=1)
        if not (level < MAX_SAMPLE).all():  # false for NaN too
            raise UnusableError("broken", "NaN, infinite or absurdly large samples")
        frames += len(block)
        clipped += int((level >= FULL_SCALE).sum())
        if frames > max_s * stream.rate_hz:
            raise UnusableError("too_long", f"more than {max_s:.0f} s; list it as stretches (start_s, end_s)")
        wave.append(resampler.resample_chunk(block.mean(axis=1, dtype=np.float32)))
    wave.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    got_s = frames / stream.rate_hz
    if stream.said_s is not None and stream.said_s - got_s > max(SHORT_S, SHORT_SHARE * stream.said_s):
        raise UnusableError(
            "broken", f"{got_s:.2f} s could be decoded of {stream.said_s:.2f} s; is the file cut off?"
        )
    if not frames:
        raise UnusableError("no_sound", "no samples in the stretch")
    return Decoded(wave.taken(), stream.rate_hz, stream.channels, clipped / frames)


class _Growing:
    """A wave that grows in place: joining a list of blocks at the end would hold everything twice."""

    def __init__(self, rate_hz: int) -> None:
        self._buffer = np.empty(30 * rate_hz, np.float32)
        self._filled = 0

    def append(self, block: np.ndarray) -> None:
        end = self._filled + len(block)
        if end > len(self._buffer):
            self._buffer.resize(max(end, len(self._buffer) * 3 // 2), refcheck=False)
        self._buffer[self._filled : end] = block
        self._filled = end

    def taken(self) -> np.ndarray:
        self._buffer.resize(self._filled, refcheck=False)
        return self._buffer


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """A file at a path or a URI; a store that is out of reach is the job's trouble, not the file's."""
    try:
        file = _copied(path) if is_uri(path) else Path(path).open("rb")  # noqa: SIM115 (closed below)
    except (FileNotFoundError, CorpusError) as error:
        raise UnusableError("missing", f"{path} does not exist") from error
    except OSError as error:
        raise UnusableError("broken", f"{path} cannot be read ({error.strerror})") from error
    with file:
        yield file


def _copied(uri: str) -> BinaryIO:
    """A store's file on this machine's disk: read once, in order, and a break in it is heard of.

    libsndfile takes an error of its reader for the end of the file.
    """
    place, name = Place.of_file(uri)
    with place.open_input(name) as file, contextlib.ExitStack() as unfinished:
        copy = unfinished.enter_context(tempfile.TemporaryFile())
        try:
            shutil.copyfileobj(file, copy, COPY_BYTES)
        except OSError as error:
            raise StorageError(f"{uri} cannot be read ({error}); is the store in reach?") from error
        copy.seek(0)
        unfinished.pop_all()
    return copy


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
