"""A process that speaks with a VITS or MMS model: `python -m paluku.vits_worker FOLDER_OR_NAME`.

`corpus.voices.vits` starts it, so that the corpus needs no torch. One JSON object a line comes in
(`text, speaker, seed, rate, noise_scale, noise_scale_duration`); out goes one JSON line, `{"samples",
"rate_hz"}` followed by so many float32, or `{"error"}`. The first line out says that the model is loaded.
Kim, Kong & Son 2021, "Conditional Variational Autoencoder with Adversarial Learning for End-to-End
Text-to-Speech" (arXiv:2106.06103).
"""

import importlib
import json
import os
import sys
from typing import Any, BinaryIO

import numpy as np
import torch

from paluku.torchaudio_cpu import prepare_torchaudio


class UnspeakableError(Exception):
    """A text that the model has no letters for."""


class Speaker:
    """A model and its tokenizer."""

    def __init__(self, model: str, revision: str | None) -> None:
        prepare_torchaudio()  # which transformers imports
        from transformers import AutoTokenizer, VitsModel, set_seed

        self._set_seed = set_seed
        self._tokenizer: Any = AutoTokenizer.from_pretrained(model, revision=revision)
        self._model: Any = VitsModel.from_pretrained(model, revision=revision or "main")
        self._model.eval()
        self._romanise = _romaniser() if getattr(self._tokenizer, "is_uroman", False) else str

    @property
    def described(self) -> dict[str, int]:
        """Its rate, and how many speakers it has."""
        config = self._model.config
        return {"rate_hz": config.sampling_rate, "speakers": max(1, config.num_speakers)}

    @torch.no_grad()
    def speak(self, request: dict[str, Any]) -> np.ndarray:
        """Float32 `[S]`; the noise is drawn from the request's seed alone."""
        inputs = self._tokenizer(self._romanise(request["text"]), return_tensors="pt")
        if not set(inputs["input_ids"].flatten().tolist()) - {self._tokenizer.pad_token_id}:
            raise UnspeakableError(
                f"the model has no letters for {request['text'][:40]!r}; write it in the model's letters"
            )
        self._model.speaking_rate = request["rate"]
        self._model.noise_scale = request["noise_scale"]
        self._model.noise_scale_duration = request["noise_scale_duration"]
        speaker = request["speaker"] if self._model.config.num_speakers > 1 else None
        self._set_seed(request["seed"])
        wave = self._model(**inputs, speaker_id=speaker).waveform[0]
        return wave.numpy().astype(np.float32)


def _romaniser() -> Any:
    try:
        return importlib.import_module("uroman").Uroman().romanize_string
    except ImportError as error:
        raise OSError("this model reads Latin letters; run: pip install uroman") from error


def serve(speaker: Speaker, out: BinaryIO) -> None:
    """Answer until the input ends."""
    _say(out, speaker.described)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            wave = speaker.speak(request)
        except UnspeakableError as error:
            _say(out, {"error": str(error)})
            continue
        # What torch raises for a text that the model chokes on: too short for a kernel, too long for the
        # memory, a letter beyond its embedding. The next text may well do.
        except (RuntimeError, ValueError, IndexError) as error:
            why = " ".join(str(error).split())[:200]
            said = f"the model fails on {request['text'][:40]!r} ({why}); write it in other words"
            _say(out, {"error": said})
            continue
        _say(out, {"samples": len(wave), "rate_hz": speaker.described["rate_hz"]}, wave.tobytes())


def _say(out: BinaryIO, header: dict[str, Any], body: bytes = b"") -> None:
    out.write(json.dumps(header).encode() + b"\n" + body)
    out.flush()


def main() -> None:
    """Load, then serve."""
    # Libraries print; the answers have the real output to themselves.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    torch.set_num_threads(1)  # sums depend on how they are shared
    model, revision = sys.argv[1], (sys.argv[2:] or [None])[0]
    try:
        speaker = Speaker(model, revision)
    except (OSError, ValueError) as error:  # what `from_pretrained` raises: not found, not reachable, no VITS
        _say(out, {"error": " ".join(str(error).split())})
        return
    serve(speaker, out)


if __name__ == "__main__":
    main()
