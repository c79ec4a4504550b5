"""What is heard in a reply's sound: whether it says its own text, in whose voice, and in what manner."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from paluku import audio, log
from paluku.errors import EvaluationError
from paluku.evals import recognition, sound
from paluku.evals.judges import Romaniser
from paluku.evals.s2s_cases import Case
from paluku.evals.s2s_sound import Change, Manner, manner
from paluku.evals.s2s_turns import Exchange, Held
from paluku.voices import VOICES, VoiceName

LOG = log.logger("evals.s2s_judges")

# What is cut out around a reply: a consonant's beginning is softer than speech.
MARGIN_S = 0.06
# Less speech has no voice: Resemblyzer looks at windows of 1.6 s.
LEAST_VOICE_S = 1.6

# A speaker's vector of unit length, from float32 `[S]` at 16 kHz (`sound.speaker_embedding`).
Embed = Callable[[np.ndarray], np.ndarray]


class Likeness(NamedTuple):
    """The replies of one conversation, together, beside each voice's recordings."""

    cosines: Mapping[VoiceName, float]
    voice: VoiceName  # that was asked for
    own_coded: float | None = None  # to that voice's recordings as the codec gives them back

    @property
    def own(self) -> float:
        """To the voice that was asked for."""
        return self.cosines[self.voice]

    @property
    def is_nearest(self) -> bool:
        """No other voice is as near."""
        return all(self.own > cosine for voice, cosine in self.cosines.items() if voice != self.voice)


class Sounds(NamedTuple):
    """What was heard in a conversation's replies; None where there is nothing to be said of one."""

    errors: list[float | None]  # romanised character error to its own text, by exchange
    changes: list[Change | None]  # of manner, against the voice's neutral recordings, by exchange
    likeness: Likeness | None


class SoundJudges:
    """All that are here; `absent` says in one line each what is not judged.

    `coded` are the recordings through the codec: to be like these is all that a model can learn.
    """

    def __init__(
        self,
        recordings: Mapping[VoiceName, Sequence[Case]],
        recogniser: Romaniser | None = None,
        embed: Embed | None = None,
        coded: Mapping[VoiceName, Sequence[Case]] | None = None,
    ) -> None:
        self.absent: list[str] = []
        self._recogniser, self._embed = recogniser, embed
        self._neutral: dict[VoiceName, Manner | None] = {}
        self._voices: dict[VoiceName, np.ndarray] = {}
        self._coded = {v: _centre(cases, embed) for v, cases in (coded or {}).items() if cases and embed}
        for voice, cases in recordings.items():
            self._neutral[voice] = _mean(_manners([case for case in cases if case.style == "neutral"]))
            if cases and embed:
                self._voices[voice] = _centre(cases, embed)
        if missing := [voice for voice in VOICES if not recordings.get(voice)]:
            self.absent.append(f"there is no recording of {', '.join(missing)}: voices are not judged")
        if missing := [voice for voice in VOICES if not self._neutral.get(voice)]:
            self.absent.append(f"nothing neutral is recorded of {', '.join(missing)}: no style of theirs is")

    @classmethod
    def here(
        cls,
        recordings: Mapping[VoiceName, Sequence[Case]],
        coded: Mapping[VoiceName, Sequence[Case]],
        *,
        recognises: bool,
    ) -> "SoundJudges":
        """All that is installed; what is not is logged once."""
        no_recogniser = recognition.why_absent() if recognises else None
        no_voices = sound.why_absent("speaker_cosine")
        recogniser = recognition.Recogniser() if recognises and not no_recogniser else None
        judges = cls(recordings, recogniser, None if no_voices else sound.speaker_embedding, coded)
        judges.absent += [reason for reason in (no_recogniser, no_voices) if reason]
        for reason in judges.absent:
            LOG.warning(reason)
        return judges

    def judge(self, held: Held) -> Sounds:
        """One conversation."""
        rate_hz = held.case.rate_hz
        replies = [reply_wave(held, each) for each in held.exchanges]
        return Sounds(
            [self._error(wave, rate_hz, each) for wave, each in zip(replies, held.exchanges, strict=True)],
            [
                None if each.is_cut else self._change(wave, rate_hz, held.voice, each.said)
                for wave, each in zip(replies, held.exchanges, strict=True)
            ],
            self._likeness(np.concatenate(replies), rate_hz, held.voice),
        )

    def _error(self, wave: np.ndarray, rate_hz: int, exchange: Exchange) -> float | None:
        """A reply that was cut is left out: its last word has more text than sound."""
        if self._recogniser is None or not len(wave) or exchange.is_cut:
            return None
        try:
            said = recognition.romanise(exchange.said)
            heard = self._recogniser.romanised(audio.resample(wave, rate_hz, recognition.RATE_HZ))
            return recognition.character_error(heard, said)
        except EvaluationError:
            return None  # a text without letters

    def _change(self, wave: np.ndarray, rate_hz: int, voice: VoiceName, text: str) -> Change | None:
        neutral, own = self._neutral.get(voice), manner(wave, rate_hz, text)
        return own.against(neutral) if own and neutral else None

    def _likeness(self, wave: np.ndarray, rate_hz: int, voice: VoiceName) -> Likeness | None:
        if self._embed is None or len(self._voices) < len(VOICES) or len(wave) < LEAST_VOICE_S * rate_hz:
            return None
        try:
            heard = self._embed(audio.resample(wave, rate_hz, sound.RATE_HZ))
        except EvaluationError:
            return None  # no voice is heard
        cosines: dict[VoiceName, float] = {v: float(heard @ centre) for v, centre in self._voices.items()}
        coded = self._coded.get(voice)
        return Likeness(cosines, voice, None if coded is None else float(heard @ coded))


def reply_wave(held: Held, exchange: Exchange) -> np.ndarray:
    """Of one reply, float32 `[S]`; empty where it has no sound."""
    if exchange.start_s is None or exchange.end_s is None:
        return np.zeros(0, np.float32)
    return _cut(held.spoken.wave, held.case.rate_hz, exchange.start_s, exchange.end_s)


def _cut(wave: np.ndarray, rate_hz: int, start_s: float, end_s: float) -> np.ndarray:
    return wave[max(0, round((start_s - MARGIN_S) * rate_hz)) : round((end_s + MARGIN_S) * rate_hz)]


def _centre(cases: Sequence[Case], embed: Embed) -> np.ndarray:
    """The middle of a voice's recordings, of unit length: each recording counts the same."""
    found = [embed(audio.resample(_spoken(case), case.rate_hz, sound.RATE_HZ)) for case in cases]
    middle = np.mean(found, axis=0)
    return middle / np.linalg.norm(middle)


def _spoken(case: Case) -> np.ndarray:
    """All recorded replies of a dialogue, without what lies between them."""
    return np.concatenate([_cut(case.agent, case.rate_hz, t.start_s, t.end_s) for t in case.replies])


def _manners(cases: Sequence[Case]) -> list[Manner]:
    """Of recorded replies that were not cut off: of those the text is known."""
    found = [
        manner(_cut(case.agent, case.rate_hz, turn.start_s, turn.end_s), case.rate_hz, turn.text)
        for case in cases
        for turn in case.replies
        if turn.kind != "cut"
    ]
    return [each for each in found if each]


def _mean(manners: Sequence[Manner]) -> Manner | None:
    """The median of each: a laugh or a name said oddly is no measure of a voice."""
    return Manner(*(float(np.median(column)) for column in zip(*manners, strict=True))) if manners else None
