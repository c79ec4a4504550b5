"""A session by itself: what it says, in which order, and how it ends."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from paluku.protocol.messages import CloseCode
from paluku.serving.events import Ending, Interrupted, Marked, ReplyFrame, UserText
from paluku.serving.lane import Answer
from paluku.serving.session import Identity, Session, Transcripts, hash_token
from paluku.streaming.alignment import AlignConfig, Aligner
from paluku.streaming.frames import Frame, FrameBuffer
from paluku.streaming.memory import SessionMemory
from paluku.streaming.ports import Conditions
from paluku.streaming.turns import TurnConfig, TurnTracker
from paluku.tokens.text import PAD, TextStream, default_tokenizer

S, K = 4, 2
FRAME = bytes(2 * S)
NO_SEAT = SimpleNamespace(card=None)  # a session's own rules need none


def session(max_waiting: int = 10, max_frames: int = 3, first_reply: int = 0) -> Session:
    memory = SessionMemory(20, 10)
    return Session(
        Identity("id", "secret"),
        Conditions(),
        NO_SEAT,  # type: ignore[arg-type]
        memory,
        FrameBuffer(S, max_frames),
        Transcripts(TextStream(default_tokenizer()), TextStream(default_tokenizer())),
        TurnTracker(TurnConfig(), 40.0),
        Aligner(AlignConfig(), 0.04),
        max_waiting,
        first_reply,
    )


def answer(token: int = PAD, code: int = 1, heard: int = PAD) -> Answer:
    reply = np.array([token, heard, code, code], np.int16)
    return Answer(np.zeros(K, np.int16), reply, np.full(S, code, np.int16))


def waiting(one: Session) -> list[object]:
    return [one.outbox.get_nowait() for _ in range(one.outbox.qsize())]


def set_out(one: Session) -> Frame:
    frame = one.next_frame_at(0.0)
    assert frame is not None
    return frame


def step(one: Session, said: Answer | None = None) -> None:
    one.answer(set_out(one), said or answer(), is_late=False)


def test_an_ended_session_is_told_no_more() -> None:
    one = session()
    one.hear(FRAME * 3, 0.0)
    frame = set_out(one)
    one.end(Ending(CloseCode.DONE))
    assert not one.can_step
    assert not one.holds_frame
    one.answer(frame, answer(), is_late=False)
    assert waiting(one) == [Ending(CloseCode.DONE)]


def test_the_first_ending_stays() -> None:
    one = session()
    first = Ending.of(CloseCode.STAGE_LOST, "stage_lost", "gone")
    one.end(first)
    one.end(Ending(CloseCode.DONE))
    one.cut_off(Ending(CloseCode.DONE))
    assert one.ending is first
    assert waiting(one) == [first]


def test_a_drained_session_has_answered_everything() -> None:
    one = session()
    one.hear(FRAME + FRAME[:2], 0.0)
    assert not one.is_drained
    one.drain(0.0)
    assert not one.is_drained  # two frames wait
    step(one)
    frame = set_out(one)
    assert not one.is_drained  # the second is under way
    one.answer(frame, answer(), is_late=True)
    assert one.is_drained
    assert (one.frames_in, one.frames_out, one.late_frames) == (2, 2, 1)


def test_more_sound_than_may_wait_ends_the_session() -> None:
    one = session(max_frames=3)
    one.hear(FRAME * 3, 0.0)
    assert one.ending is None
    one.hear(FRAME, 0.0)
    assert one.ending is not None
    assert one.ending.code == "too_fast"


def test_a_slow_reader_is_cut_off() -> None:
    one = session(max_waiting=2)
    one.hear(FRAME * 3, 0.0)
    for _ in range(3):
        step(one)
    assert one.ending is not None
    assert one.ending.code == "slow_reader"
    assert one.cut.is_set()


def test_text_comes_with_the_frame_that_completes_its_character() -> None:
    one = session()
    one.hear(FRAME * 3, 0.0)
    first, second = default_tokenizer().encode("é")
    for token in (*default_tokenizer().encode("న"), first, second):
        step(one, answer(token))
    frames = [event for event in waiting(one) if isinstance(event, ReplyFrame)]
    assert [frame.text for frame in frames] == ["న", "", "é"]


def test_what_the_user_was_understood_to_say_follows_its_frame_and_is_remembered() -> None:
    one = session()
    one.hear(FRAME * 3, 0.0)
    for token in default_tokenizer().encode("ఆ")[:3]:
        step(one, answer(heard=token))
    events = waiting(one)
    told = [place for place, event in enumerate(events) if isinstance(event, UserText)]
    assert [events[place].text for place in told] == ["ఆ"]  # type: ignore[attr-defined]
    frame = events[told[0] - 1]
    assert isinstance(frame, ReplyFrame)
    assert frame.number == events[told[0]].number  # type: ignore[attr-defined]
    one.memory.began("user", 0)
    assert one.memory.turns[0].text == "ఆ"


def test_frames_behind_one_that_was_lost_come_back_with_it_in_order() -> None:
    one = session()
    one.hear(FRAME * 3, 0.0)
    frames = [set_out(one) for _ in range(3)]
    one.answer(frames[0], answer(), is_late=False)
    one.answer(frames[1], answer()._replace(lost="converse"), is_late=False)
    one.answer(frames[2], answer(), is_late=False)
    assert one.needs_attention
    one.sit(NO_SEAT)  # type: ignore[arg-type]
    assert [set_out(one).number for _ in range(2)] == [1, 2]
    assert one.memory.end == 1


def test_a_client_that_came_back_hears_nothing_twice() -> None:
    one = session(first_reply=2)
    one.hear(FRAME * 3, 0.0)
    for _ in range(3):
        step(one)
    assert [event.number for event in waiting(one) if isinstance(event, ReplyFrame)] == [2]
    assert one.memory.end == 3


def test_a_marker_with_nothing_before_it_comes_back_at_once() -> None:
    one = session()
    one.mark("now")
    assert waiting(one) == [Marked("now", 0)]


@pytest.mark.parametrize(("played", "first_unheard"), [(None, 1), (0, 0), (1, 1), (7, 3)])
def test_what_was_not_heard_is_what_waits_or_what_the_client_has_not_played(
    played: int | None, first_unheard: int
) -> None:
    one = session()
    one.hear(FRAME * 3, 0.0)
    for _ in range(3):
        step(one)
    sent = one.outbox.get_nowait()  # the connection has taken the first
    assert isinstance(sent, ReplyFrame)
    if played is not None:
        one.played(played)
    one.interrupt()
    told = waiting(one)
    assert told[0] == Interrupted(first_unheard)
    rest = [event for event in told if isinstance(event, ReplyFrame)]
    assert [(event.number, event.present, bool(event.pcm.any())) for event in rest] == [
        (1, False, False),
        (2, False, False),
    ]
    unheard = np.array([PAD, PAD, 0, 0], np.int16)
    one.cut_unheard(unheard)
    codes = one.memory.history().reply[:, 2].tolist()
    assert codes == [1] * first_unheard + [0] * (3 - first_unheard)


def test_idle_waits_for_what_is_under_way() -> None:
    async def run() -> None:
        one = session()
        one.hear(FRAME, 0.0)
        await asyncio.wait_for(one.idle(), 1)
        frame = set_out(one)
        waits = asyncio.ensure_future(one.idle())
        await asyncio.sleep(0)
        assert not waits.done()
        one.fail(frame)
        await asyncio.wait_for(waits, 1)

    asyncio.run(run())


def test_a_token_leaves_the_process_only_hashed() -> None:
    identity = Identity.new()
    assert identity.key == hash_token(identity.token)
    assert identity.token not in identity.key
    assert Identity.new().token != identity.token


def test_what_the_client_did_not_hear_of_a_reply_it_was_sent_is_forgotten() -> None:
    one = session()
    one.hear(FRAME * 3, 0.0)
    for _ in range(3):
        step(one)
    waiting(one)  # all of it was sent
    one.truncate(2)
    one.truncate(7)  # later than what was said: nothing to forget
    assert one.wants_rebuild
    one.cut_unheard(np.array([PAD, PAD, 0, 0], np.int16))
    assert one.memory.history().reply[:, 2].tolist() == [1, 1, 0]
