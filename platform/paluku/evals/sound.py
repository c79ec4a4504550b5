"""What judges say of one decoded clip beside its original: both float32 `[S]` at 16 kHz, aligned.

A judge of another project is imported when it is first asked; one that is not installed, a clip that a judge
cannot say anything about, and a wave with NaN or infinity are an EvaluationError. Higher is better, but for
the mel distance.
"""

import functools
import importlib.util
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from paluku.errors import EvaluationError

RATE_HZ = 16_000
# Below -80 dB full scale there is nothing to compare.
SILENCE_RMS = 1e-4
# A difference smaller than a part in 10^10 of the energy is rounding.
MOST_SI_SDR_DB = 100.0

MEL_WINDOW, MEL_HOP, MEL_BANDS = 1024, 256, 80  # 64 ms, 16 ms
MEL_FLOOR = 1e-4  # of full scale: 80 dB down nobody hears a difference

Metric = Callable[[np.ndarray, np.ndarray], float]
# For what is said of a package that is not there.
HOW_TO_INSTALL = (
    "run `make setup` in a checkout, else `pip install 'paluku[evals]'` and "
    "`pip install --no-deps -r requirements-nodeps.txt`"
)
# What each judge imports. ViSQOL maps its similarity with a lattice that LiteRT runs; the polynomial it falls
# back to gives 1 to 2 points more, so numbers with and without could not be compared.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "pesq": ("pesq",),
    "stoi": ("pystoi",),
    "visqol": ("visqol", "ai_edge_litert"),
    "speaker_cosine": ("resemblyzer", "webrtcvad"),
}


def why_absent(metric: str) -> str | None:
    """Why a metric cannot be had here, in one line; None where it can."""
    missing = [module for module in NEEDS.get(metric, ()) if importlib.util.find_spec(module) is None]
    if not missing:
        return None
    compiled = "; it is compiled with gcc and python3-dev" if metric == "pesq" else ""
    return f"{metric} is not judged: {', '.join(missing)} is not installed; {HOW_TO_INSTALL}{compiled}"


def pesq_wb(reference: np.ndarray, decoded: np.ndarray) -> float:
    """Wide-band PESQ, 1.04 to 4.64 (ITU-T P.862.2, by the package pesq).

    Raises:
        EvaluationError: when it is not installed, or finds no speech in a clip (1/4 s is the least).
    """
    _check("pesq", reference, decoded)
    import pesq

    try:
        return float(pesq.pesq(RATE_HZ, reference, _audible(decoded), "wb"))
    except (pesq.PesqError, pesq.NoUtterancesError, pesq.BufferTooShortError) as error:
        raise EvaluationError(f"PESQ has no number: {_said(error)}") from error


def stoi(reference: np.ndarray, decoded: np.ndarray) -> float:
    """Short-time objective intelligibility, up to 1 (Taal et al. 2011, by the package pystoi).

    Raises:
        EvaluationError: when it is not installed, or a clip has less than 0.4 s of sound.
    """
    _check("stoi", reference, decoded)
    import pystoi

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            return float(pystoi.stoi(reference, _audible(decoded), RATE_HZ))
    except RuntimeWarning as error:
        raise EvaluationError("STOI has no number: less than 0.4 s of sound") from error


def visqol(reference: np.ndarray, decoded: np.ndarray) -> float:
    """ViSQOL in speech mode, 1 to 5 (Chinen et al. 2020, by the package visqol-python).

    Raises:
        EvaluationError: when it is not installed, or a clip is too short for one patch (0.4 s).
    """
    _check("visqol", reference, decoded)
    try:
        measured = _visqol_api().measure_from_arrays(
            reference.astype(np.float64), _audible(decoded).astype(np.float64), RATE_HZ
        )
    except (ValueError, IndexError, RuntimeError) as error:
        raise EvaluationError(f"ViSQOL has no number: {_said(error)}") from error
    return float(measured.moslqo)


def si_sdr_db(reference: np.ndarray, decoded: np.ndarray) -> float:
    """Scale-invariant signal to distortion ratio, dB, within ±100 (Le Roux et al. 2019).

    Raises:
        EvaluationError: when the original is silent.
    """
    _check("si_sdr_db", reference, decoded)
    x, y = reference.astype(np.float64), decoded.astype(np.float64)
    part = (x @ y) / (x @ x) * x
    rest = y - part
    rounding = 10 ** (-MOST_SI_SDR_DB / 10)
    signal, noise = part @ part, rest @ rest
    if not signal + noise:
        return -MOST_SI_SDR_DB
    ratio = max(signal, noise * rounding) / max(noise, signal * rounding)
    return float(10 * np.log10(ratio))


def mel_distance(reference: np.ndarray, decoded: np.ndarray) -> float:
    """Mean absolute difference, dB, of mel spectrograms: 80 bands, windows of 64 ms, floor at -80 dB.

    As DAC's mel distance (Kumar et al. 2023, section 4.3) at one window, in dB.

    Raises:
        EvaluationError: when the original is silent.
    """
    _check("mel_distance", reference, decoded)
    return float(np.abs(_log_mel_db(reference) - _log_mel_db(decoded)).mean())


def speaker_cosine(reference: np.ndarray, decoded: np.ndarray) -> float:
    """Cosine of the two speaker embeddings (Wan et al. 2018, by the package Resemblyzer).

    Two recordings of one speaker give .87, of two speakers .52, on average; equal error is at .73.

    Raises:
        EvaluationError: when it is not installed, or hears no voice in one of the clips.
    """
    _check("speaker_cosine", reference, decoded)
    return float(speaker_embedding(reference) @ speaker_embedding(decoded))


METRICS: Mapping[str, Metric] = {
    "pesq": pesq_wb,
    "stoi": stoi,
    "visqol": visqol,
    "si_sdr_db": si_sdr_db,
    "mel_distance": mel_distance,
    "speaker_cosine": speaker_cosine,
}


def check_finite(reference: np.ndarray, decoded: np.ndarray) -> None:
    """Of a wave that is broken nothing can be said.

    Raises:
        EvaluationError: when one of them has NaN or infinity.
    """
    for name, wave in (("original", reference), ("decoded wave", decoded)):
        if not np.isfinite(wave).all():
            raise EvaluationError(f"the {name} has NaN or infinity")


def _check(metric: str, reference: np.ndarray, decoded: np.ndarray) -> None:
    if reason := why_absent(metric):
        raise EvaluationError(reason)
    check_finite(reference, decoded)
    if not len(reference) or float(np.sqrt(np.square(reference, dtype=np.float64).mean())) < SILENCE_RMS:
        raise EvaluationError("the original is silent")


def _audible(decoded: np.ndarray) -> np.ndarray:
    """The same, with a last bit of noise where a codec gave digital silence: judges take logarithms of it."""
    if decoded.any():
        return decoded
    return (np.random.default_rng(0).standard_normal(len(decoded)) * 2.0**-16).astype(np.float32)


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else type(error).__name__
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


@functools.cache
def _visqol_api() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech", use_lattice_model=True)
    return api


@functools.cache
def _voice_encoder() -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
    with warnings.catch_warnings():
        # Resemblyzer takes scipy's binary dilation from where it once was.
        warnings.simplefilter("ignore", DeprecationWarning)
        from resemblyzer import VoiceEncoder, preprocess_wav
    return VoiceEncoder("cpu", verbose=False), preprocess_wav


def speaker_embedding(wave: np.ndarray) -> np.ndarray:
    """Of unit length, `[256]`, from float32 `[S]` at 16 kHz (Wan et al. 2018, by the package Resemblyzer).

    Raises:
        EvaluationError: when no voice is heard.
    """
    encoder, voiced = _voice_encoder()
    heard = voiced(_audible(np.clip(wave, -1.0, 1.0)))
    if not len(heard):
        raise EvaluationError("no voice is heard")
    return encoder.embed_utterance(heard)


def _log_mel_db(wave: np.ndarray) -> np.ndarray:
    """`[frames, bands]`; a sine at full scale is at 0 dB."""
    window = np.hanning(MEL_WINDOW + 1)[:-1]
    padded = np.pad(wave.astype(np.float64), MEL_WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, MEL_WINDOW)[::MEL_HOP]
    magnitudes = np.abs(np.fft.rfft(frames * window, axis=1)) * (2 / window.sum())
    return 20 * np.log10(np.maximum(magnitudes @ _mel_bands(), MEL_FLOOR))


@functools.cache
def _mel_bands() -> np.ndarray:
    """Triangles on the mel scale (O'Shaughnessy 1987), each with a peak of 1: `[bins, bands]`."""
    bins_hz = np.fft.rfftfreq(MEL_WINDOW, 1 / RATE_HZ)
    top = 2595 * np.log10(1 + RATE_HZ / 2 / 700)
    edges_hz = 700 * (10 ** (np.linspace(0, top, MEL_BANDS + 2) / 2595) - 1)
    below, middle, above = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising = (bins_hz[:, None] - below) / (middle - below)
    falling = (above - bins_hz[:, None]) / (above - middle)
    return np.maximum(0.0, np.minimum(rising, falling))
