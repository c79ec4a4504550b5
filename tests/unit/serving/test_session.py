import numpy as np

from paluku.protocol.messages import CloseCode, ReplyAudio, Stats, Text
from paluku.serving.session import Ending, Outgoing, Session
from paluku.streaming.engine import Reply
from paluku.streaming.frames import FrameBuffer
from paluku.tokens.text import PAD, CharTokenizer, TextStream

FRAME = bytes(8)
SILENCE = np.zeros(4, np.int16)


def session(max_waiting: int = 10) -> Session:
    return Session("id", 0, FrameBuffer(4, 3), TextStream(CharTokenizer()), max_waiting)


def waiting(one: Session) -> list[object]:
    return [one.outbox.get_nowait() for _ in range(one.outbox.qsize())]


def step(one: Session, token: int = PAD) -> None:
    frame = one.next_frame()
    assert frame is not None
    one.answer(frame, Reply(SILENCE, token, present=True), is_late=False)


def test_an_ended_session_is_stepped_and_told_no_more() -> None:
    one = session()
    one.hear(FRAME * 3, 0.0)
    frame = one.next_frame()
    assert frame is not None
    one.end(Ending(CloseCode.DONE))
    assert one.next_frame() is None
    assert not one.holds_frame
    one.answer(frame, Reply(SILENCE, PAD, present=True), is_late=False)
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
    frame = one.next_frame()
    assert frame is not None
    assert not one.is_drained  # the second is under way
    one.answer(frame, Reply(SILENCE, PAD, present=True), is_late=True)
    assert one.is_drained
    assert (one.frames_in, one.frames_out, one.late_frames) == (2, 2, 1)


def test_text_comes_before_the_sound_it_was_said_in_and_a_cut_character_at_the_end() -> None:
    one = session()
    one.hear(FRAME * 2, 0.0)
    whole, first_byte_of_two = *CharTokenizer().encode("న"), CharTokenizer().encode("é")[0]
    step(one, whole)
    step(one, first_byte_of_two)
    one.end_well()
    text, sound, more_sound, cut, ending = waiting(one)
    assert text == Text(0, "న")
    assert isinstance(sound, Outgoing)
    assert isinstance(more_sound, Outgoing)
    assert cut == Text(1, "\N{REPLACEMENT CHARACTER}")
    assert ending == Ending(CloseCode.DONE)


def test_time_spent_is_known_when_a_reply_is_sent() -> None:
    one = session()
    one.hear(FRAME, now_s=2.0)
    step(one)
    (outgoing,) = waiting(one)
    assert isinstance(outgoing, Outgoing)
    assert outgoing.at(2.5) == ReplyAudio(0, present=True, spent_ms=500.0, pcm=SILENCE.tobytes())


def test_a_report_holds_the_sessions_own_counts() -> None:
    one = session()
    one.hear(FRAME * 2, 0.0)
    step(one)
    waiting(one)
    one.report(1.0, 2.0)
    assert waiting(one) == [Stats(frames_in=2, frames_out=1, late_frames=0, tick_p50_ms=1.0, tick_p99_ms=2.0)]
