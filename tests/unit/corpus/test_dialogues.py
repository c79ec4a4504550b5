from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from paluku.corpus.dialogues import REPLY_CHANNEL, USER_CHANNEL, Dialogue, Timing, plan_dialogues, render
from paluku.corpus.turns import Turn
from paluku.errors import AudioError
from paluku.voices import VOICES
from tests.fakes.synthesiser import S_PER_CHARACTER, SILENCE_S, FakeSynthesiser

RATE_HZ = 16_000
FRAME = 640
WINDOW_S = 0.01

DIALOGUE = Dialogue(
    id="d", question="question", answer="answer", user_voice="two", reply_voice="ravi", licence="CC0-1.0"
)


def rendered(timing: Timing | None = None, seed: int = 0, dialogue: Dialogue = DIALOGUE):
    return render(dialogue, FakeSynthesiser(), RATE_HZ, timing or Timing(), seed)


@pytest.mark.parametrize("seed", range(8))
def test_whoever_does_not_speak_is_silent(seed: int) -> None:
    wave, (user, agent) = rendered(seed=seed)
    reply, question = wave[:, REPLY_CHANNEL], wave[:, USER_CHANNEL]
    user_start, user_end, agent_start, agent_end = (
        round(turn[edge] * RATE_HZ) for turn in (user, agent) for edge in ("start_s", "end_s")
    )
    assert user_start < user_end < agent_start < agent_end <= len(wave)
    assert not reply[:agent_start].any()
    assert not reply[agent_end:].any()
    assert not question[:user_start].any()
    assert not question[user_end:].any()
    assert np.sqrt(np.square(reply[agent_start:agent_end]).mean()) > 0.01
    assert np.sqrt(np.square(question[user_start:user_end]).mean()) > 0.01


@pytest.mark.parametrize("seed", range(8))
def test_silences_lie_in_their_spans(seed: int) -> None:
    timing = Timing(lead_s=(0.1, 0.2), gap_s=(0.5, 0.7), tail_s=(0.4, 0.45))
    wave, (user, agent) = rendered(timing, seed)
    assert 0.1 <= user["start_s"] - SILENCE_S <= 0.2
    assert 0.5 - WINDOW_S <= agent["start_s"] - user["end_s"] <= 0.7 + WINDOW_S
    # The engine's own trailing silence, and what fills the last frame, come on top.
    assert 0.4 <= len(wave) / RATE_HZ - agent["end_s"] <= 0.45 + SILENCE_S + 0.04
    assert user["end_s"] - user["start_s"] == pytest.approx(
        len("question") * S_PER_CHARACTER, abs=2 * WINDOW_S
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_dialogue_is_whole_frames(seed: int) -> None:
    wave, _ = rendered(seed=seed)
    assert wave.dtype == np.float32
    assert len(wave) % FRAME == 0


def test_the_same_seed_and_id_give_the_same_bytes() -> None:
    wave, turns = rendered(seed=5)
    again, turns_again = rendered(seed=5)
    assert wave.tobytes() == again.tobytes()
    assert turns == turns_again
    for other in (rendered(seed=6), rendered(seed=5, dialogue=DIALOGUE.model_copy(update={"id": "e"}))):
        assert other[1] != turns


def test_a_reply_without_a_gap_follows_at_once_but_never_overlaps() -> None:
    wave, (user, agent) = rendered(Timing(gap_s=(0.0, 0.0)))
    assert 0 <= agent["start_s"] - user["end_s"] <= SILENCE_S + WINDOW_S
    assert not (wave[:, 0].astype(bool) & wave[:, 1].astype(bool)).any()


def test_turns_carry_their_texts_and_roles() -> None:
    _, turns = rendered()
    assert [(turn["role"], turn["text"]) for turn in turns] == [("user", "question"), ("agent", "answer")]


def test_what_cannot_be_spoken_is_refused() -> None:
    with pytest.raises(AudioError, match="cannot be spoken"):
        rendered(dialogue=DIALOGUE.model_copy(update={"answer": "42"}))


@pytest.mark.parametrize("pairs", [4, 5, 8])
def test_every_pair_meets_every_reply_voice(pairs: int) -> None:
    # 4 and 8 are multiples of the number of voices: a plain remainder would tie a question to one voice.
    turns = [Turn(f"q{number}", f"a{number}", "t", "CC0") for number in range(pairs)]
    planned = plan_dialogues(turns, 4 * pairs, VOICES, ["one", "two"], seed=0)
    assert Counter((d.question, d.reply_voice) for d in planned) == {
        (turn.question, voice): 1 for turn in turns for voice in VOICES
    }
    assert all(d.answer == d.question.replace("q", "a") for d in planned)
    assert {d.user_voice for d in planned} == {"one", "two"}


def test_a_larger_plan_begins_with_the_smaller_one() -> None:
    turns = [Turn("q", "a", "t", "CC0")]
    assert plan_dialogues(turns, 9, VOICES, ["one"], 0)[:5] == plan_dialogues(turns, 5, VOICES, ["one"], 0)


@pytest.mark.parametrize("span", [(0.5, 0.2), (-0.1, 0.2)])
def test_a_span_that_runs_backwards_is_refused(span: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="gap_s"):
        Timing(gap_s=span)
