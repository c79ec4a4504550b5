"""Speaker encoders by what a person calls them, and with them the reply voices' vectors.

A model folder of kind `speakers`: the encoder's weights, and a tensor `voices.NAME` for each voice that was
enrolled (jobs/enrol_voices.py).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from paluku import audio
from paluku.errors import AudioError, CheckpointError
from paluku.registry.artefact import Card, appearing_whole, read_model, write_model
from paluku.registry.shipped import shipped
from paluku.speakers.encoder import SpeakerEncoder, SpeakerEncoderConfig
from paluku.voices import VOICES

DEFAULT = "default"
SHIPPED = shipped("speakers")
VOICE = "voices."
# The encoder was trained on 2 to 3 s; a reference of 5 s is what to ask people for.
LEAST_SPEECH_S, ADVISED_SPEECH_S, MOST_S = 1.0, 5.0, 30.0
# A stretch is speech when it is not 35 dB below the loudest, nor below -60 dB full scale.
SPEECH_RANGE, LEAST_AMPLITUDE, STRETCH_S = 10 ** (-35 / 20), 1e-3, 0.02


class Speakers(NamedTuple):
    """An encoder in eval mode, and the voices that it knows: vectors of unit length by name."""

    encoder: SpeakerEncoder
    voices: Mapping[str, Float[Tensor, "E"]]
    card: Card

    def reply_voices(self) -> Float[Tensor, "V E"]:
        """The vectors of the reply voices in the order of `paluku.voices.VOICES`.

        Raises:
            CheckpointError: when one of them was not enrolled.
        """
        if missing := [name for name in VOICES if name not in self.voices]:
            raise CheckpointError(
                f"the speakers model {self.card.hash} has no vector of {', '.join(missing)}; "
                "enrol the voices with jobs/enrol_voices.py"
            )
        return torch.stack([self.voices[name] for name in VOICES])


def open_speakers(spec: str = DEFAULT) -> Speakers:
    """`default` (shipped), or a model folder; on the CPU.

    Raises:
        CheckpointError: when it is neither, or its files are missing or damaged.
    """
    folder = model_folder(spec)
    card, config, weights = read_model(folder, "speakers", SpeakerEncoderConfig)
    voices = {name.removeprefix(VOICE): value for name, value in weights.items() if name.startswith(VOICE)}
    encoder = SpeakerEncoder(config)
    try:
        encoder.load_state_dict({n: value for n, value in weights.items() if not n.startswith(VOICE)})
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: weights do not fit their configuration ({error})") from error
    return Speakers(encoder.eval().requires_grad_(False), voices, card)


def model_folder(spec: str) -> Path:
    """Where `open_speakers` finds a model. Raises `CheckpointError` when there is none."""
    if spec == DEFAULT and not SHIPPED.is_dir():
        raise CheckpointError(f"{SHIPPED} is missing: it comes with a checkout of the repository, not by pip")
    folder = SHIPPED if spec == DEFAULT else Path(spec)
    if not folder.is_dir():
        raise CheckpointError(
            f"there is no speakers model {spec!r}; give {DEFAULT}, or a checkpoint's folder"
        )
    return folder


def speaker_vector(
    encoder: SpeakerEncoder, wave: Float[np.ndarray, "S"], rate_hz: int, name: str = "the reference recording"
) -> Float[Tensor, "E"]:
    """Of unit length: who speaks in a mono wave, of which the first 30 s are heard.

    Raises:
        AudioError: when there is less than 1 s of speech in it, or it has NaN or infinity.
    """
    heard = np.asarray(wave, dtype=np.float32)[: round(MOST_S * rate_hz)]
    if not np.isfinite(heard).all():
        raise AudioError(f"{name} holds NaN or infinity; export it again")
    if (speech := speech_s(heard, rate_hz)) < LEAST_SPEECH_S:
        raise AudioError(
            f"{name} has {speech:.1f} s of speech; give at least {LEAST_SPEECH_S:g} s, "
            f"better {ADVISED_SPEECH_S:g} s"
        )
    return heard_by(encoder, heard, rate_hz)


@torch.no_grad()
def heard_by(encoder: SpeakerEncoder, wave: Float[np.ndarray, "S"], rate_hz: int) -> Float[Tensor, "E"]:
    """The vector of a whole mono wave, however much of it is speech; on the CPU."""
    at_rate = np.ascontiguousarray(audio.resample(wave, rate_hz, encoder.sample_rate_hz))
    device = next(encoder.parameters()).device
    return encoder(torch.from_numpy(at_rate)[None, None].to(device))[0].cpu()


def speech_s(wave: Float[np.ndarray, "S"], rate_hz: int) -> float:
    """How much of a wave is neither a pause nor silence, in stretches of 20 ms."""
    size = round(STRETCH_S * rate_hz)
    stretches = wave[: len(wave) // size * size].reshape(-1, size)
    levels = np.sqrt(np.square(stretches, dtype=np.float64).mean(axis=1))
    bound = max(levels.max(initial=0.0) * SPEECH_RANGE, LEAST_AMPLITUDE)
    return float((levels > bound).sum()) * STRETCH_S


def enrolled(vectors: Iterable[Float[Tensor, "E"]]) -> Float[Tensor, "E"]:
    """One voice from the vectors of its recordings: their mean, brought to unit length."""
    return F.normalize(torch.stack(list(vectors)).mean(dim=0), dim=0)


def with_voices(speakers: Path, voices: Mapping[str, Float[Tensor, "E"]], out: Path) -> Card:
    """Write the model again, to `out`, with these voices' vectors in it; it keeps its others.

    Raises:
        CheckpointError: when `speakers` is no whole model of this kind.
        StorageError: when `out` cannot be written.
    """
    card, config, weights = read_model(speakers, "speakers", SpeakerEncoderConfig)
    weights |= {f"{VOICE}{name}": vector for name, vector in voices.items()}
    told = {"step": card.step, "run_id": card.run_id, "parents": card.parents}
    with appearing_whole(out) as partial:
        return write_model(partial, "speakers", config, weights, **told)
