"""Codecs of others, run beside ours on the same clips: Opus by its programs, Lyra v2 by its weights."""

import importlib.util
import os
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import soundfile

from paluku.errors import EvaluationError
from paluku.evals.align import MOST_LAG_S

RATE_HZ = 16_000
OPUS_KBPS = (6, 9, 12)
LYRA_STAGES = (8, 16, 30)  # 1.6, 3.2 and 6 kbps
# Beside a checkout.
LYRA = Path(__file__).resolve().parents[3].parent / "shared" / "baselines" / "lyra"
OGG_HEADER_BYTES = 27  # of a page; the last one counts the segments


class Coded(NamedTuple):
    """What a baseline made of a clip: float32 `[S]` at 16 kHz, at least as long as the clip and its lag."""

    wave: np.ndarray
    kbps: float  # of this clip
    encode_s: float  # CPU time
    decode_s: float


@runtime_checkable
class Baseline(Protocol):
    """A codec that is only measured."""

    @property
    def name(self) -> str:
        """As in the rows."""
        ...

    @property
    def kbps(self) -> float:
        """What is asked of it; a variable rate gives another figure for each clip."""
        ...

    def why_absent(self) -> str | None:
        """Why it cannot run here, in one line; None where it can."""
        ...

    def code(self, wave: np.ndarray) -> Coded:
        """There and back, of mono float32 `[S]` at 16 kHz."""
        ...


class OpusBaseline:
    """`opusenc` and `opusdec` (Debian's opus-tools), at their own settings for a rate.

    The rate is variable; `Coded.kbps` counts the packets, without the container's pages.
    """

    name = "opus"

    def __init__(self, kbps: float) -> None:
        self.kbps = float(kbps)

    def why_absent(self) -> str | None:
        """The programs that are not there."""
        missing = [program for program in ("opusenc", "opusdec") if shutil.which(program) is None]
        if not missing:
            return None
        return f"opus is not judged: {', '.join(missing)} is not installed; apt-get install opus-tools"

    def code(self, wave: np.ndarray) -> Coded:
        """There and back.

        Raises:
            EvaluationError: when the programs are absent or fail.
        """
        if reason := self.why_absent():
            raise EvaluationError(reason)
        with tempfile.TemporaryDirectory() as scratch:
            original, packed, unpacked = (Path(scratch) / name for name in ("in.wav", "x.opus", "out.wav"))
            soundfile.write(original, wave, RATE_HZ, subtype="FLOAT")
            encode_s = _run("opusenc", "--quiet", "--bitrate", f"{self.kbps:g}", original, packed)
            decode_s = _run("opusdec", "--quiet", "--float", "--rate", str(RATE_HZ), packed, unpacked)
            decoded = soundfile.read(unpacked, dtype="float32", always_2d=True)[0][:, 0]
            num_bytes = ogg_payload_bytes(packed.read_bytes())
        return Coded(decoded, num_bytes * 8 / (len(wave) / RATE_HZ) / 1000, encode_s, decode_s)


class LyraBaseline:
    """Google's Lyra v2 (Apache-2.0): a causal SoundStream, 50 frames of 20 ms a second, 4 bits a stage.

    Its three .tflite files are looked for in `folder`, else in the folder that `$PALUKU_LYRA` names, else in
    `../shared/baselines/lyra` beside a checkout.
    """

    name = "lyra"

    def __init__(self, stages: int, folder: Path | None = None) -> None:
        assert 1 <= stages <= _Lyra.MOST_STAGES, f"Lyra has 1 to {_Lyra.MOST_STAGES} stages, not {stages}"
        named = os.environ.get("PALUKU_LYRA")
        beside = LYRA if LYRA.is_dir() else None
        self._folder = folder or (Path(named) if named else beside)
        self.stages = stages
        self.kbps = stages * _Lyra.BITS * RATE_HZ / _Lyra.FRAME_SAMPLES / 1000

    def why_absent(self) -> str | None:
        """The setting, files or package that is not there."""
        files = ", ".join(_Lyra.FILES)
        if self._folder is None:
            return f"lyra is not judged: $PALUKU_LYRA names no folder; let it name one with {files}"
        missing = [name for name in _Lyra.FILES if not (self._folder / name).is_file()]
        if missing:
            return f"lyra is not judged: {self._folder} has no {', '.join(missing)}; put {files} there"
        if importlib.util.find_spec("ai_edge_litert") is None:
            return "lyra is not judged: ai_edge_litert is not installed; pip install --no-deps ai-edge-litert"
        return None

    def code(self, wave: np.ndarray) -> Coded:
        """There and back; what is decoded goes on until the clip's end has come out.

        Raises:
            EvaluationError: when it is absent.
        """
        if reason := self.why_absent():
            raise EvaluationError(reason)
        assert self._folder is not None, "absent without a folder"
        lyra = _Lyra(self._folder)
        samples = len(wave) + round(MOST_LAG_S * RATE_HZ)
        padded = np.pad(wave, (0, samples + -samples % _Lyra.FRAME_SAMPLES - len(wave)))
        started_s = time.process_time()
        codes = lyra.encode(padded, self.stages)
        encoded_s = time.process_time()
        decoded = lyra.decode(codes)
        ended_s = time.process_time()
        share = len(wave) / len(padded)  # silence behind the clip is not counted
        return Coded(decoded, self.kbps, (encoded_s - started_s) * share, (ended_s - encoded_s) * share)


def baselines(lyra_folder: Path | None = None) -> list[Baseline]:
    """All of them, at the rates they are compared at."""
    opus: list[Baseline] = [OpusBaseline(kbps) for kbps in OPUS_KBPS]
    return [*opus, *(LyraBaseline(stages, lyra_folder) for stages in LYRA_STAGES)]


def ogg_payload_bytes(file: bytes) -> int:
    """Bytes of sound in an Ogg Opus file: its packets without the two headers (RFC 3533, RFC 7845).

    Raises:
        EvaluationError: when the file is no whole Ogg file.
    """
    packets, open_bytes, at = [], 0, 0
    while at < len(file):
        lacing = _lacing(file[at:])
        for length in lacing:
            open_bytes += length
            if length < 255:  # a packet ends at the first length that is not full
                packets.append(open_bytes)
                open_bytes = 0
        at += OGG_HEADER_BYTES + len(lacing) + sum(lacing)
        if not lacing or at > len(file):
            raise EvaluationError(f"no whole Ogg page ends at byte {at}; install opus-tools again")
    return sum(packets[2:])


def _lacing(page: bytes) -> bytes:
    """Lengths of a page's segments; none where it is no page."""
    if page[:4] != b"OggS" or len(page) < OGG_HEADER_BYTES:
        return b""
    return page[OGG_HEADER_BYTES : OGG_HEADER_BYTES + page[OGG_HEADER_BYTES - 1]]


def _run(*command: str | Path) -> float:
    """CPU seconds that a program took, its start among them."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise EvaluationError(f"{command[0]} failed ({done.stderr.strip()[-200:]}); install opus-tools again")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


class _Lyra:
    """One stream of one clip. A second clip needs another: the runtime keeps state that it does not reset."""

    FILES = ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite")
    FRAME_SAMPLES, BITS, MOST_STAGES = 320, 4, 46
    UNSENT = -1  # in the place of stages that were not sent

    def __init__(self, folder: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._encoder, self._quantizer, self._decoder = (
            Interpreter(model_path=str(folder / name), num_threads=1) for name in self.FILES
        )
        for model in (self._encoder, self._quantizer, self._decoder):
            model.allocate_tensors()
        self._quantise = self._quantizer.get_signature_runner("encode")
        self._dequantise = self._quantizer.get_signature_runner("decode")

    def encode(self, wave: np.ndarray, stages: int) -> np.ndarray:
        """Codes `[T, stages]` of whole frames."""
        frames = wave.astype(np.float32).reshape(-1, self.FRAME_SAMPLES)
        return np.stack([self._codes(frame, stages) for frame in frames])

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Float32 `[320 T]`."""
        return np.clip(np.concatenate([self._sound(row) for row in codes]), -1.0, 1.0)

    def _codes(self, frame: np.ndarray, stages: int) -> np.ndarray:
        features = _invoke(self._encoder, frame).reshape(1, 1, -1)
        given = self._quantise(input_frames=features, num_quantizers=np.int32(stages))
        return np.asarray(given["output_0"]).reshape(-1)[:stages]

    def _sound(self, codes: np.ndarray) -> np.ndarray:
        indices = np.full((self.MOST_STAGES, 1, 1), self.UNSENT, np.int32)
        indices[: len(codes), 0, 0] = codes
        return _invoke(self._decoder, self._dequantise(encoding_indices=indices)["output_0"]).reshape(-1)


def _invoke(model: Any, value: np.ndarray) -> np.ndarray:
    """One step of a streaming model with one input and one output; a copy."""
    [entry], [result] = model.get_input_details(), model.get_output_details()
    model.set_tensor(entry["index"], np.asarray(value, np.float32).reshape(entry["shape"]))
    model.invoke()
    return np.array(model.get_tensor(result["index"]))
