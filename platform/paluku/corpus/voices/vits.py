"""Any VITS or MMS model of Hugging Face `transformers`, such as Meta's `facebook/mms-tts-tel`.

The model runs in a process of its own (`paluku.vits_worker`), as the corpus needs no torch. Weights come by
name or from a local folder; MMS weights are CC BY-NC 4.0, which what is made with them inherits.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from typing import IO, Any

import numpy as np
from pydantic import Field

from paluku.config import Config
from paluku.corpus.voices import alignment
from paluku.corpus.voices.expression import express
from paluku.corpus.voices.levels import speech_bounds
from paluku.corpus.voices.port import Prosody, Speech
from paluku.corpus.voices.psola import reshape
from paluku.errors import AudioError, ConfigError, ServiceError


class VitsConfig(Config):
    """Which model, and how much it may vary."""

    model: str = "facebook/mms-tts-tel"  # or a folder that `save_pretrained` wrote
    revision: str | None = None
    speakers: int = Field(default=1, ge=1)  # as the model has
    seed: int = Field(default=0, ge=0)
    noise_scale: float = Field(default=0.667, ge=0)
    noise_scale_duration: float = Field(default=0.8, ge=0)


class Vits:
    """Implements `port.Engine`; its voices are the model's speakers, "0", "1" and so on.

    Raises:
        ServiceError: when `transformers` is not installed.
    """

    def __init__(self, config: VitsConfig | None = None) -> None:
        self._config = config or VitsConfig()
        if importlib.util.find_spec("transformers") is None:
            raise ServiceError("VITS voices need the package transformers; run: pip install transformers")
        self._worker: _Worker | None = None

    @property
    def name(self) -> str:
        """Of the engine."""
        return "vits"

    @property
    def voices(self) -> tuple[str, ...]:
        """Numbers of the model's speakers."""
        return tuple(str(number) for number in range(self._config.speakers))

    def speak(self, text: str, voice: str, prosody: Prosody) -> Speech:
        """One sentence; its word timings are estimated. The first call loads the model.

        Raises:
            ConfigError: for a speaker that the model does not have.
            AudioError: when it has no letters for the text, or fails on it.
            ServiceError: when the weights cannot be had, or the model's process ends.
        """
        if voice not in self.voices:
            raise ConfigError(f"VITS has no voice {voice!r}; choose one of: {', '.join(self.voices)}")
        return express(self._say, text, voice, prosody)

    def close(self) -> None:
        """End the model's process; the next sentence starts another."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _say(self, text: str, voice: str, prosody: Prosody) -> Speech:
        if not alignment.tokens(text):
            raise AudioError(f"VITS says nothing for {text[:40]!r}; give it a text with letters")
        if self._worker is None:
            self._worker = _Worker(self._config)
        settings = self._config.model_dump(include={"seed", "noise_scale", "noise_scale_duration"})
        asked = {"text": text, "speaker": int(voice), "rate": prosody.rate, **settings}
        wave, rate_hz = self._worker.ask(asked)
        # VITS has a rate of its own, but no say in the pitch.
        wave = reshape(wave, rate_hz, semitones=prosody.pitch_semitones, pitch_range=prosody.pitch_range)
        if not speech_bounds(wave, rate_hz).end:
            raise AudioError(f"VITS says nothing for {text[:40]!r}; give it a text in the model's letters")
        return Speech(wave, rate_hz, alignment.estimate(text, wave, rate_hz), is_timed=False)


class _Worker:
    """The process that holds the model.

    Raises:
        ServiceError: when it cannot load the model.
    """

    def __init__(self, config: VitsConfig) -> None:
        self._model = config.model
        self._lock = threading.Lock()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        command = [sys.executable, "-m", "paluku.vits_worker", config.model]
        self._process = subprocess.Popen(
            command + ([config.revision] if config.revision else []),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._end = weakref.finalize(self, _end, self._process, self._complaints)
        loaded = self._header()
        if "error" in loaded:
            self.close()
            raise ServiceError(
                f"the VITS model {config.model!r} cannot be loaded ({loaded['error'][:300]}); set vits.model "
                "to a folder with its weights, or make huggingface.co reachable"
            )
        if config.speakers > loaded["speakers"]:
            self.close()
            raise ConfigError(
                f"the VITS model {config.model!r} has {loaded['speakers']} speakers, not {config.speakers}; "
                "set vits.speakers"
            )

    def ask(self, request: dict[str, Any]) -> tuple[np.ndarray, int]:
        """Wave float32 `[S]` and its rate."""
        with self._lock:
            stdin, stdout = self._pipes()
            try:
                stdin.write(json.dumps(request).encode() + b"\n")
                stdin.flush()
            except BrokenPipeError as error:
                raise ServiceError(self._ended()) from error
            header = self._header()
            if "error" in header:
                raise AudioError(header["error"])
            size = header["samples"] * np.dtype(np.float32).itemsize
            body = stdout.read(size)
            if len(body) < size:
                raise ServiceError(self._ended())
        return np.frombuffer(body, np.float32), header["rate_hz"]

    def close(self) -> None:
        """End the process."""
        self._end()

    def _header(self) -> dict[str, Any]:
        line = self._pipes()[1].readline()
        if not line:
            raise ServiceError(self._ended())
        return json.loads(line)

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    def _ended(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines() or ["it says nothing"]
        return (
            f"the process of the VITS model {self._model!r} has ended ({lines[-1][:200]}); check its memory"
        )


def _end(process: subprocess.Popen[bytes], complaints: IO[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.terminate()
    process.wait()
    complaints.close()
