import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.protocol import native
from paluku.protocol.machine import ClientSide, ServerSide, State
from paluku.protocol.messages import (
    Adjust,
    Align,
    ClientMessage,
    End,
    Error,
    Forget,
    Hello,
    Interrupt,
    Interrupted,
    Mark,
    Marked,
    Played,
    Ready,
    ReplyAudio,
    ResumeRequest,
    ServerMessage,
    Stats,
    Text,
    Turn,
    UserAudio,
    UserText,
    ViolationError,
)
from tests.fuzz import deep
from tests.unit.protocol.test_native import GOLDEN_CLIENT, GOLDEN_SERVER, mutated

HELLO = Hello(sample_rate_hz=16_000)
RESUMING = Hello(sample_rate_hz=16_000, resume=ResumeRequest(token="t", next_reply=5))
READY = Ready(
    session_id="s",
    resume_token="t",
    grace_s=30,
    sample_rate_hz=16_000,
    frame_samples=640,
    frame_ms=40,
    acoustic_delay_frames=1,
    next_frame=0,
    next_reply=0,
    tick_in_ms=1,
    lead_ms=1,
    capabilities=(),
    server="s",
)
AUDIO = UserAudio(0, b"\0\0")


def reply(seq: int) -> ReplyAudio:
    return ReplyAudio(seq, present=True, audible=True, spent_ms=0.0, sound=b"\0\0")


def server(*received: ClientMessage) -> ServerSide:
    side = ServerSide()
    for message in received:
        side.receive(native.encode(message))
    return side


def client(*received: ServerMessage, next_reply: int = 0) -> ClientSide:
    side = ClientSide(next_reply)
    for message in received:
        side.receive(native.encode(message))
    return side


def code_of(side: ServerSide | ClientSide, message: ClientMessage | ServerMessage) -> str:
    with pytest.raises(ViolationError) as violation:
        side.receive(native.encode(message))
    return violation.value.code


def test_a_session_from_hello_to_end() -> None:
    rest = (
        Adjust(voice="ravi"),
        Forget(),
        Mark("a"),
        Interrupt(),
        UserAudio(1, b""),
        End(),
        Interrupt(),
        Played(0),
    )
    assert server(HELLO, AUDIO, *rest).state is State.ENDING


@pytest.mark.parametrize(
    ("received", "then", "code"),
    [
        *(((), first, "no_hello") for first, _ in GOLDEN_CLIENT if not isinstance(first, Hello)),
        ((), Hello(sample_rate_hz=44_100), "wrong_rate"),
        ((), Hello(sample_rate_hz=16_000, encoding="opus"), "wrong_rate"),
        ((HELLO,), HELLO, "second_hello"),
        ((HELLO, End()), HELLO, "second_hello"),
        ((HELLO,), UserAudio(1, b""), "out_of_order"),
        ((HELLO, AUDIO), AUDIO, "out_of_order"),
        *(((HELLO, End()), late, "after_end") for late in (AUDIO, End(), Adjust(), Forget(), Mark("a"))),
        ((HELLO,), Played(1), "bad_frame"),
        ((RESUMING,), Played(6), "bad_frame"),
        ((RESUMING, Played(5)), Played(4), "bad_frame"),
    ],
)
def test_what_may_not_come_is_refused_by_name(
    received: tuple[ClientMessage, ...], then: ClientMessage, code: str
) -> None:
    assert code_of(server(*received), then) == code


@pytest.mark.parametrize(
    ("encoding", "rate_hz"),
    [
        *(("pcm16", rate_hz) for rate_hz in (8_000, 16_000, 24_000, 48_000)),
        ("opus", 24_000),
        ("opus", 48_000),
    ],
)
def test_rates_that_are_taken(encoding: str, rate_hz: int) -> None:
    hello = Hello.model_validate({"encoding": encoding, "sample_rate_hz": rate_hz})
    assert server(hello).state is State.STREAMING


def test_what_was_sent_may_have_been_played() -> None:
    side = server(HELLO)
    side.send(READY)
    side.send(reply(0))
    side.receive(native.encode(Played(1)))
    assert code_of(side, Played(2)) == "bad_frame"


ASKED_FOR = {
    "align": (Align(1.0),),
    "text": (Text(0, "a"),),
    "user_text": (UserText(0, "a"),),
    "stats": (Stats(frames_in=0, frames_out=0, late_frames=0, tick_p50_ms=0, tick_p99_ms=0),),
    "turns": (Turn("user", "started", 0), Interrupted(0)),
}


@pytest.mark.parametrize("capability", ASKED_FOR)
def test_only_what_was_asked_for_is_told(capability: str) -> None:
    side = server(HELLO.model_copy(update={"capabilities": (capability, "teleport")}))
    assert side.capabilities == (capability,)
    for name, told in ASKED_FOR.items():
        for message in told:
            sent = side.send(message)
            assert sent == (native.encode(message) if name == capability else None)
    for always in (reply(0), Marked(0, "a"), READY):
        assert side.send(always) == native.encode(always)


def test_nothing_is_heard_behind_an_error() -> None:
    side = server(HELLO)
    side.send(Error(code="x", message="y"))
    assert code_of(side, AUDIO) == "after_end"


def test_a_server_says_nothing_twice() -> None:
    side = server(RESUMING)
    with pytest.raises(AssertionError, match="reply 4 after 4"):
        side.send(reply(4))
    assert side.send(reply(5)) == native.encode(reply(5))


def test_a_client_numbers_its_sound() -> None:
    side = client(READY)
    sent = [native.decode_client(side.audio(b"\0\0")) for _ in range(3)]
    assert [message.seq for message in sent if isinstance(message, UserAudio)] == [0, 1, 2]
    assert native.decode_client(side.send(End())) == End()


def test_a_client_may_not_send_out_of_order() -> None:
    side = ClientSide()
    with pytest.raises(RuntimeError, match="while the connection is greeting"):
        side.audio(b"")
    side.send(HELLO)
    side.receive(native.encode(READY))
    with pytest.raises(RuntimeError, match="UserAudio may not be sent by hand"):
        side.send(AUDIO)
    with pytest.raises(RuntimeError, match="Hello may not be sent"):
        side.send(HELLO)
    side.send(End())
    side.send(Played(0))
    side.send(Interrupt())
    with pytest.raises(RuntimeError, match="while the connection is ending"):
        side.audio(b"")
    for late in (End(), Mark("a"), Forget(), Adjust()):
        with pytest.raises(RuntimeError, match=f"{type(late).__name__} may not be sent"):
            side.send(late)


@pytest.mark.parametrize(
    ("received", "then", "code"),
    [
        ((), Text(0, "a"), "out_of_order"),
        ((READY,), READY, "out_of_order"),
        ((Error(code="x", message="y"),), READY, "out_of_order"),
        ((READY, Error(code="x", message="y")), Text(0, "a"), "out_of_order"),
        ((READY, reply(0)), reply(0), "said_twice"),
        ((READY, reply(3)), reply(2), "said_twice"),
    ],
)
def test_a_server_out_of_order_is_refused(
    received: tuple[ServerMessage, ...], then: ServerMessage, code: str
) -> None:
    assert code_of(client(*received), then) == code


def test_a_resumed_client_hears_nothing_again() -> None:
    assert code_of(client(next_reply=5), READY) == "said_twice"
    ready = READY.model_copy(update={"next_reply": 5})
    assert code_of(client(ready, next_reply=5), reply(4)) == "said_twice"
    assert client(ready, reply(5), reply(7), next_reply=5).state is State.STREAMING


CLIENT_WORDS = st.lists(mutated() | st.sampled_from([data for _, data in GOLDEN_CLIENT]), max_size=12)
SERVER_WORDS = st.lists(mutated() | st.sampled_from([data for _, data in GOLDEN_SERVER]), max_size=12)


@deep
@given(CLIENT_WORDS, st.integers(0, 3))
def test_a_server_takes_any_words_or_names_the_violation(words: list[bytes], sent: int) -> None:
    side = server(HELLO.model_copy(update={"capabilities": ("text",)}))
    side.send(READY)
    for number in range(sent):
        side.send(reply(number))
    heard = 0
    for word in words:
        try:
            message = side.receive(word)
        except ViolationError as violation:
            side.send(Error(code=violation.code, message=str(violation)))
            assert side.state is State.CLOSED
            return
        if isinstance(message, UserAudio):
            assert message.seq == heard  # never a message lost or doubled
            heard += 1
        if isinstance(message, Played):
            assert message.frame <= sent


@deep
@given(SERVER_WORDS)
def test_a_client_hears_every_reply_once_or_names_the_violation(words: list[bytes]) -> None:
    side = client(READY)
    heard: list[int] = []
    for word in words:
        try:
            message = side.receive(word)
        except ViolationError:
            break
        if isinstance(message, ReplyAudio):
            heard.append(message.seq)
    assert heard == sorted(set(heard))
