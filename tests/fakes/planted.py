"""A conversation whose every moment is known: three questions, a backchannel, an interruption.

Its sound is steps of a codec segment's length, which `tests.fakes.codec.FakeCodec` gives back as they were.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from paluku import audio
from paluku.corpus.turns import Intent, Reply
from paluku.evals import s2s_run
from paluku.evals.s2s_judges import SoundJudges
from tests.fakes.folders import RATE_HZ, dialogue

SEGMENT = 80
ASKS = ("నీ పేరు ఏమిటి?", "ఇవాళ వాన పడుతుందా?", "సూర్యుడు ఎక్కడ ఉదయిస్తాడు?")
REPLIES = (
    "నా పేరు పలుకు, మీతో మాట్లాడటానికి ఉన్నాను.",
    "గొడుగు తీసుకెళ్ళండి, సాయంత్రం చినుకులు పడవచ్చు.",
    "సూర్యుడు తూర్పున ఉదయిస్తాడు.",
)
INTENTS = tuple(
    Intent(name, "small", (ask,), (), (Reply(reply, "neutral"),), "CC0-1.0")
    for name, ask, reply in zip(("who.name", "weather.rain", "facts.sun"), ASKS, REPLIES, strict=True)
)
SAID_BEFORE_CUT = "గొడుగు తీసుకెళ్ళండి,"
SECONDS = 10.4

USER = (
    (ASKS[0], 0.4, 1.6, "turn"),
    ("ఊఁ", 2.6, 2.8, "backchannel"),
    (ASKS[1], 4.4, 5.6, "turn"),
    (ASKS[2], 6.8, 8.0, "interruption"),
)
# The second reply is silent 80 ms after the user begins to speak.
AGENT = (
    (REPLIES[0], 1.8, 4.0, "turn"),
    (SAID_BEFORE_CUT, 5.72, 6.88, "cut"),
    (REPLIES[2], 8.2, 10.0, "turn"),
)

Said = tuple[str, float, float, str]


def steps(seconds: float, seed: int = 0) -> np.ndarray:
    """Loud and without meaning: float32 `[S]`, a multiple of 1/128 a segment."""
    heights = np.random.default_rng(seed).choice([-24, -16, 16, 24], round(seconds * RATE_HZ) // SEGMENT)
    return np.repeat(heights / 128, SEGMENT).astype(np.float32)


def planted(
    number: int = 0, user: Sequence[Said] = USER, agent: Sequence[Said] = AGENT, **columns: Any
) -> dict[str, Any]:
    """A row of the dialogues schema; given columns win."""
    wave = np.zeros((round(SECONDS * RATE_HZ), 2), np.float32)
    for channel, turns in enumerate((agent, user)):
        for _, start_s, end_s, _ in turns:
            wave[round(start_s * RATE_HZ) : round(end_s * RATE_HZ), channel] = steps(end_s - start_s, number)
    said = [_turn("agent", *turn) for turn in agent] + [_turn("user", *turn) for turn in user]
    about = {
        "audio": audio.to_flac(wave, RATE_HZ),
        "num_samples": len(wave),
        "intents": [intent.name for intent in INTENTS],
        "turns": sorted(said, key=lambda turn: turn["start_s"]),
        "split": "test",
    }
    return dialogue(number, SECONDS, **(about | columns))


def _turn(role: str, text: str, start_s: float, end_s: float, kind: str) -> dict[str, Any]:
    spoken = text.split()
    edges = np.linspace(start_s, end_s, len(spoken) + 1).tolist()
    words = [
        {"text": word, "start_s": first, "end_s": last}
        for word, first, last in zip(spoken, edges, edges[1:], strict=False)
    ]
    times = {"start_s": start_s, "end_s": end_s}
    return {"role": role, "text": text, **times, "kind": kind, "words": words, "is_timed": True}


def judge_lightly(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model that hears words or speakers is loaded; replies are judged beside these intents alone."""
    monkeypatch.setattr(
        SoundJudges, "here", lambda recordings, coded, **_: SoundJudges(recordings, coded=coded)
    )
    monkeypatch.setattr(s2s_run, "read_intents", lambda: INTENTS)
