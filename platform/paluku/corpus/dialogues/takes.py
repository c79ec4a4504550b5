"""What one person said once: a wave, where its words lie, and what is done to both together.

Every operation gives a new take whose words still stand where they sound. Positions are samples, words
are in seconds from the wave's first sample.
"""

from typing import NamedTuple, Protocol

import numpy as np

from paluku import audio
from paluku.corpus.voices.levels import WINDOW_S, speech_bounds
from paluku.corpus.voices.port import Speech, Word
from paluku.errors import AudioError
from paluku.voices import StyleName

# What is kept before and after the speech, so that a soft onset is not bitten off.
MARGIN_S = 0.02
# A splice is made at the quietest place this near to where the words part.
SEARCH_S = 0.06
SPLICE_FADE_S = 0.005


class Speaker(Protocol):
    """Who says it: `corpus.voices.cast.Cast`, or a fake."""

    def speak(self, text: str, voice: str, style: StyleName = "neutral") -> Speech:
        """One sentence; the same arguments give the same samples."""
        ...


class Take(NamedTuple):
    """A spoken turn at the corpus's rate."""

    text: str
    wave: np.ndarray  # float32 [S]
    start: int  # of the speech
    end: int
    words: tuple[Word, ...]  # in order, within start and end
    is_timed: bool
    calm: int = 0  # from here on nothing was inserted: the end of the last pause


def take(speaker: Speaker, text: str, voice: str, style: StyleName, rate_hz: int, speed: float = 1.0) -> Take:
    """Speak, resample, and trim to the speech. `speed` above 1 is faster and higher, as a tape is.

    Raises:
        AudioError: when the engine cannot say the text, or says nothing.
    """
    said = speaker.speak(text, voice, style)
    wave = audio.resample(said.wave, round(said.rate_hz * speed), rate_hz)
    stretch = said.rate_hz / round(said.rate_hz * speed)
    first, last = speech_bounds(wave, rate_hz)
    if first == last:
        raise AudioError(f"{voice} says nothing for {text[:40]!r}; give it a text with letters")
    margin = round(MARGIN_S * rate_hz)
    cut = max(first - margin, 0)
    kept = wave[cut : last + margin].astype(np.float32)
    words = [
        Word(w.text, w.start_s * stretch - cut / rate_hz, w.end_s * stretch - cut / rate_hz)
        for w in said.words
    ]
    start, end = first - cut, last - cut
    return Take(text, kept, start, end, within(words, start / rate_hz, end / rate_hz), said.is_timed, start)


def within(words: list[Word], start_s: float, end_s: float) -> tuple[Word, ...]:
    """The words with their bounds moved into `[start_s, end_s]`, none before the end of the one before it."""
    placed: list[Word] = []
    earliest = start_s
    for word in words:
        begin = min(max(word.start_s, earliest), end_s)
        earliest = min(max(word.end_s, begin), end_s)
        placed.append(Word(word.text, begin, earliest))
    return tuple(placed)


def pause_places(said: Take) -> list[int]:
    """Numbers of the words after which a speaker may pause: at punctuation if there is some, else anywhere.

    Not after the first syllables nor before the last word: a pause belongs into the midst of a turn.
    """
    inner = range(len(said.words) - 1)
    spans = word_spans(said.text, [word.text for word in said.words])
    if spans is None:
        return list(inner)
    marked = [k for k in inner if any(c in ",;:.!?…–—" for c in said.text[spans[k][1] - 1 : spans[k + 1][0]])]
    return marked or list(inner)


def with_pause(said: Take, after: int, pause: int, rate_hz: int) -> Take:
    """A take that falls silent for `pause` samples after the word of that number, and goes on."""
    left, right = said.words[after], said.words[after + 1]
    at = quietest(said.wave, round((left.end_s + right.start_s) / 2 * rate_hz), rate_hz)
    at = min(max(at, said.start + 1), said.end - 1)
    fade = min(round(SPLICE_FADE_S * rate_hz), at, len(said.wave) - at)
    ramp = np.linspace(1, 0, fade, dtype=np.float32)
    before, behind = said.wave[:at].copy(), said.wave[at:].copy()
    before[at - fade :] *= ramp
    behind[:fade] *= ramp[::-1]
    wave = np.concatenate([before, np.zeros(pause, np.float32), behind])
    cut_s, pause_s = at / rate_hz, pause / rate_hz
    head = [Word(w.text, min(w.start_s, cut_s), min(w.end_s, cut_s)) for w in said.words[: after + 1]]
    rest = [
        Word(w.text, max(w.start_s, cut_s) + pause_s, max(w.end_s, cut_s) + pause_s)
        for w in said.words[after + 1 :]
    ]
    return said._replace(wave=wave, end=said.end + pause, words=(*head, *rest), calm=at + pause)


def quietest(wave: np.ndarray, near: int, rate_hz: int) -> int:
    """The middle of the quietest 10 ms within `SEARCH_S` of a sample."""
    window, reach = round(WINDOW_S * rate_hz), round(SEARCH_S * rate_hz)
    first = max(near - reach, 0)
    part = np.square(wave[first : near + reach], dtype=np.float64)
    if len(part) <= window:
        return near
    power = np.convolve(part, np.ones(window), mode="valid")
    # Of equally quiet places the one nearest to where the words part.
    places = np.flatnonzero(power <= power.min() * 1.01)
    middle = first + places + window // 2
    return int(middle[np.argmin(np.abs(middle - near))])


def later(said: Take, samples: int, rate_hz: int) -> Take:
    """The bounds and words of a take whose wave is to begin that many samples earlier."""
    shift_s = samples / rate_hz
    words = tuple(Word(w.text, w.start_s + shift_s, w.end_s + shift_s) for w in said.words)
    return said._replace(
        start=said.start + samples, end=said.end + samples, calm=said.calm + samples, words=words
    )


def cut_at(said: Take, silent: int, fade: int, rate_hz: int) -> Take:
    """A take whose sound has faded to nothing at sample `silent`; words that had begun by half stay.

    Text and words end with the last word that was spoken; a turn may be left without any.
    """
    wave = said.wave[:silent].copy()
    fade = min(fade, len(wave))
    wave[len(wave) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    silent_s = silent / rate_hz
    spoken = [word for word in said.words if (word.start_s + word.end_s) / 2 <= silent_s - fade / rate_hz]
    end = min(said.end, silent)
    words = within(spoken, said.start / rate_hz, end / rate_hz)
    return said._replace(text=_spoken_text(said, len(spoken)), wave=wave, end=end, words=words)


def _spoken_text(said: Take, count: int) -> str:
    if not count:
        return ""
    spans = word_spans(said.text, [word.text for word in said.words])
    if spans is None:
        return " ".join(word.text for word in said.words[:count])
    return said.text[: spans[count - 1][1]]


def word_spans(text: str, words: list[str]) -> list[tuple[int, int]] | None:
    """Where each word stands in the text, `(first, past its last character)`; none when one is not found."""
    spans: list[tuple[int, int]] = []
    place = 0
    for word in words:
        found = text.find(word, place)
        if not word or found < 0:
            return None
        place = found + len(word)
        spans.append((found, place))
    return spans
