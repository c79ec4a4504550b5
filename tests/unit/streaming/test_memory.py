"""A memory equals what came into it, however it travelled; turns say what was heard."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paluku.streaming.memory import MAX_TURNS, SessionMemory, Turn, Update
from paluku.streaming.ports import History

S, K = 4, 2
FRAMES, PCM_FRAMES = 8, 3
NO_WORDS = {role: {"pieces": [], "untold": 0} for role in ("user", "agent")}
UNHEARD = np.full(2 + K, -1, np.int16)


def memory() -> SessionMemory:
    return SessionMemory(FRAMES, PCM_FRAMES)


def frame(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """PCM, user codes and reply that name their frame."""
    return (
        np.full(S, number, np.int16),
        np.full(K, number + 1_000, np.int16),
        np.full(2 + K, number + 2_000, np.int16),
    )


def filled(frames: int) -> SessionMemory:
    made = memory()
    for number in range(frames):
        made.append(*frame(number))
    return made


def through_json(update: Update) -> Update:
    return Update(update.history, json.loads(json.dumps(update.facts)))


def contents(of: SessionMemory) -> dict[str, Any]:
    history = of.history()
    return {
        "start": history.start,
        **{name: getattr(history, name).tolist() for name in ("user_pcm", "user_codes", "reply")},
        "facts": through_json(of.snapshot({"voice": "priya"})).facts,
    }


def test_history_is_the_tail() -> None:
    history = filled(20).history()
    assert (history.start, history.end) == (12, 20)
    assert history.user_codes[:, 0].tolist() == list(range(1_012, 1_020))
    assert history.reply[:, 0].tolist() == list(range(2_012, 2_020))
    assert history.user_pcm[:, 0].tolist() == [17, 18, 19]


@given(st.integers(1, 30), st.integers(0, 31), st.integers(0, 31))
def test_any_slice_holds_its_own_frames(frames: int, start: int, end: int) -> None:
    made = filled(frames)
    if made.start <= end <= made.end:
        history = made.history(end)
        assert history.reply[:, 0].tolist() == list(range(2_000 + made.start, 2_000 + end))
        assert history.user_pcm[:, 0].tolist() == list(range(max(frames - PCM_FRAMES, 0), end))
    else:
        with pytest.raises(ValueError, match="are kept"):
            made.history(end)
    since = made.since(start)
    assert since.end == made.end
    assert since.user_codes[:, 0].tolist() == list(
        range(1_000 + min(max(start, made.start), frames), 1_000 + frames)
    )
    assert since.user_pcm[:, 0].tolist() == list(range(max(start, frames - PCM_FRAMES, 0), frames))


def test_an_empty_history_keeps_its_widths_once_they_are_known() -> None:
    shapes = [part.shape for part in memory().history()[1:]]
    assert shapes == [(0, 0)] * 3
    made = filled(20)
    made.clear()
    history = made.history()
    assert (history.start, history.end) == (20, 20)
    assert [part.shape for part in history[1:]] == [(0, S), (0, K), (0, 2 + K)]
    assert {part.dtype for part in history[1:]} == {np.dtype(np.int16)}


def test_after_a_cut_the_next_update_starts_there() -> None:
    made = filled(10)
    made.update({})
    made.cut(7, UNHEARD)
    history = made.update({}).history
    assert (history.start, history.end) == (7, 10)
    rows = history.reply
    assert rows[:, 1].tolist() == [2_007, 2_008, 2_009], "what the user was understood to say stays"
    assert (np.delete(rows, 1, axis=1) == -1).all()
    assert history.user_codes[:, 0].tolist() == [1_007, 1_008, 1_009]
    assert len(made.update({}).history.reply) == 0


def test_an_update_that_did_not_get_through_is_part_of_the_next() -> None:
    made, far = filled(5), memory()
    far.apply(made.update({}))
    made.append(*frame(5))
    lost = made.update({})
    made.retry(lost)
    made.append(*frame(6))
    far.apply(made.update({}))
    assert contents(far) == contents(made)


def test_frames_that_do_not_connect_replace_everything() -> None:
    far = filled(3)
    made = filled(20)
    history = made.since(15)
    far.apply(Update(history, {"turns": [], "memory": {"start": 15, "sound_start": 17, "words": NO_WORDS}}))
    assert far.history().reply[:, 0].tolist() == list(range(2_015, 2_020))
    assert far.history().user_pcm[:, 0].tolist() == [17, 18, 19]


def test_sound_that_would_leave_a_hole_is_dropped() -> None:
    """An update of four frames with the sound of one: the sound kept from before does not reach it."""
    far = filled(3)
    made = filled(7)
    history = made.since(3)._replace(user_pcm=made.history().user_pcm[-1:])
    far.apply(Update(history, {"turns": [], "memory": {"start": 0, "sound_start": 6, "words": NO_WORDS}}))
    assert far.history().user_pcm[:, 0].tolist() == [6]


STEP = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 12)),
    st.tuples(st.just("cut"), st.integers(0, 12)),
    st.tuples(st.just("rewind"), st.integers(0, 12)),
    st.tuples(st.just("clear"), st.just(0)),
    st.tuples(st.just("began"), st.sampled_from(["user", "agent"])),
    st.tuples(st.just("ended"), st.sampled_from(["user", "agent"])),
    st.tuples(st.just("said"), st.sampled_from(["హా", " ", "అవును", ""])),
    st.tuples(st.just("understood"), st.sampled_from(["ఊఁ", " ", "ఏమిటి"])),
    st.tuples(st.just("update"), st.booleans()),
)


def act(on: SessionMemory, step: str, value: Any) -> None:
    match step:
        case "append":
            for _ in range(value):
                on.append(*frame(on.end))
        case "cut":
            on.cut(max(on.end - value, 0), UNHEARD)
        case "rewind":
            on.rewind(max(on.end - value, on.start))
        case "clear":
            on.clear()
        case "said":
            on.said(max(on.end - 1, 0), value)
        case "understood":
            on.said(max(on.end - 1, 0), value, "user")
        case "began":
            on.began(value, on.end)
        case "ended":
            on.ended(value, on.end)


@settings(max_examples=300)
@given(st.lists(STEP, max_size=40))
def test_a_chain_of_updates_gives_the_same_memory(steps: list[tuple[str, Any]]) -> None:
    made, middle, far = memory(), memory(), memory()
    for step, value in steps:
        act(made, step, value)
        if step == "update":
            update = through_json(made.update({"voice": "priya"}))
            if value:
                middle.apply(update)
                far.apply(through_json(middle.update({"voice": "priya"})))  # a chain of two
            else:
                made.retry(update)
        assert len(made.history().reply) <= FRAMES
        assert len(made.history().user_pcm) <= PCM_FRAMES
        assert len(made.turns) <= MAX_TURNS
    middle.apply(through_json(made.update({})))
    far.apply(through_json(middle.update({})))
    assert contents(middle) == contents(made)
    assert contents(far) == contents(made)
    fresh = memory()
    fresh.apply(through_json(made.snapshot({})))
    assert contents(fresh) == contents(made)


@given(st.lists(STEP, max_size=40), st.lists(STEP, max_size=10))
def test_a_memory_that_moved_goes_on_as_if_it_had_not(
    before: list[tuple[str, Any]], after: list[tuple[str, Any]]
) -> None:
    made, moved = memory(), memory()
    for step, value in before:
        act(made, step, value)
    moved.apply(through_json(made.snapshot({})))
    for step, value in after:
        act(made, step, value)
        act(moved, step, value)
    assert contents(moved) == contents(made)


def test_going_back_is_as_if_it_had_not_been() -> None:
    made = filled(10)
    made.began("user", 4)
    made.ended("user", 9)
    made.began("agent", 9)
    made.said(9, "x")
    made.rewind(7)
    assert made.history().reply[:, 0].tolist() == list(range(2_002, 2_007))
    assert made.history().user_pcm.shape == (0, S), "frames 7 to 9 had the sound"
    assert turns(made) == [Turn(role="user", first_frame=4, end_frame=7)]
    made.append(*frame(7))
    assert made.history().user_pcm[:, 0].tolist() == [7]
    with pytest.raises(ValueError, match="1 was asked for; 2 to 8 are kept"):
        made.rewind(1)


def test_a_snapshot_does_not_count_as_an_update() -> None:
    made = filled(5)
    assert made.snapshot({"x": 1}).facts["x"] == 1
    assert made.update({}).history.start == 0


def turns(of: SessionMemory) -> list[Turn]:
    return list(of.turns)


def test_turns_of_a_dialogue() -> None:
    made = memory()
    made.began("user", 3)
    made.ended("user", 20)
    made.said(22, "అవును")  # text comes before its sound
    made.began("agent", 24)
    made.said(26, ", చెప్పండి")
    made.ended("agent", 40)
    assert turns(made) == [
        Turn(role="user", first_frame=3, end_frame=20),
        Turn(role="agent", first_frame=24, end_frame=40, text="అవును, చెప్పండి"),
    ]


def test_each_side_s_words_are_its_own_turn_s() -> None:
    made = filled(8)
    made.said(1, "ఏమి", "user")  # before it was sure that somebody speaks
    made.began("user", 0)
    made.said(3, "టి", "user")
    made.began("agent", 3)
    made.said(4, "అవును")
    made.said(5, "?", "user")
    made.cut(4, UNHEARD)
    made.ended("user", 6)
    assert [(turn.role, turn.text) for turn in turns(made)] == [("user", "ఏమిటి?"), ("agent", "")]
    made.rewind(4)
    assert [turn.text for turn in turns(made)] == ["ఏమిటి", ""], "what is lived again is understood again"


def test_stretches_with_a_pause_are_one_turn() -> None:
    made = memory()
    for first, end in ((3, 20), (30, 44)):
        made.began("user", first)
        made.ended("user", end)
    assert turns(made) == [Turn(role="user", first_frame=3, end_frame=44)]


def test_a_start_that_was_told_late_keeps_its_place() -> None:
    made = memory()
    made.began("agent", 20)
    made.began("user", 18)
    assert [turn.role for turn in turns(made)] == ["user", "agent"]


def test_an_end_without_a_start_is_nothing() -> None:
    made = memory()
    made.ended("agent", 7)
    assert turns(made) == []


def test_a_cut_leaves_what_was_heard() -> None:
    made = filled(8)
    made.began("agent", 2)
    for number, text in ((2, "ఒకటి "), (4, "రెండు "), (6, "మూడు")):
        made.said(number, text)
    made.began("user", 6)
    made.cut(5, UNHEARD)
    made.ended("agent", 8)
    assert turns(made) == [
        Turn(role="agent", first_frame=2, end_frame=5, text="ఒకటి రెండు "),
        Turn(role="user", first_frame=6),
    ]


def test_a_turn_that_nobody_heard_is_none() -> None:
    made = filled(8)
    made.said(1, "a")
    made.began("agent", 2)
    made.ended("agent", 3)
    made.began("user", 3)
    made.ended("user", 5)
    made.said(5, "b")
    made.began("agent", 6)
    made.said(7, "c")
    made.cut(5, UNHEARD)
    assert turns(made) == [
        Turn(role="agent", first_frame=2, end_frame=3, text="a"),
        Turn(role="user", first_frame=3, end_frame=5),
    ]


def test_text_that_waits_for_its_turn_is_cut_too() -> None:
    made = filled(8)
    made.said(3, "heard ")
    made.said(6, "unheard")
    made.cut(5, UNHEARD)
    made.began("agent", 8)
    assert turns(made)[0].text == "heard "


def test_ten_turns_are_kept() -> None:
    made = memory()
    for number in range(30):
        role = "user" if number % 2 else "agent"
        made.began(role, number * 10)
        made.ended(role, number * 10 + 5)
    assert [turn.first_frame for turn in turns(made)] == list(range(200, 300, 10))


def test_forgetting_keeps_the_count() -> None:
    made = filled(20)
    made.began("user", 19)
    made.said(19, "x")
    made.clear()
    made.append(*frame(20))
    assert (made.start, made.end, turns(made)) == (20, 21, [])
    assert made.update({}).history.start == 20


def test_shapes_are_those_of_the_port() -> None:
    history = filled(5).history()
    assert isinstance(history, History)
    assert [part.shape for part in history[1:]] == [(3, S), (5, K), (5, 2 + K)]
