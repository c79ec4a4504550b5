import pytest

from paluku.protocol import native
from paluku.protocol.machine import ClientSide, ServerSide, State
from paluku.protocol.messages import End, Error, Hello, Ready, ReplyAudio, Text, UserAudio, ViolationError

HELLO = native.encode(Hello(sample_rate_hz=16_000))
READY = Ready(session_id="s", sample_rate_hz=16_000, frame_samples=640, frame_ms=40, acoustic_delay_frames=1)


def server(*received: bytes) -> ServerSide:
    side = ServerSide(16_000)
    for data in received:
        side.receive(data)
    return side


def audio(seq: int) -> bytes:
    return native.encode(UserAudio(seq, b"\0\0"))


def test_a_session_from_hello_to_end() -> None:
    side = server(HELLO, audio(0), audio(1), native.encode(End()))
    assert side.state is State.ENDING


@pytest.mark.parametrize(
    ("received", "then", "code"),
    [
        ((), audio(0), "no_hello"),
        ((), native.encode(End()), "no_hello"),
        ((), native.encode(Hello(sample_rate_hz=24_000)), "wrong_rate"),
        ((HELLO,), HELLO, "second_hello"),
        ((HELLO,), audio(1), "out_of_order"),
        ((HELLO, audio(0)), audio(0), "out_of_order"),
        ((HELLO, native.encode(End())), audio(0), "after_end"),
        ((HELLO, native.encode(End())), native.encode(End()), "after_end"),
    ],
)
def test_what_may_not_come_is_refused_by_name(received: tuple[bytes, ...], then: bytes, code: str) -> None:
    side = server(*received)
    with pytest.raises(ViolationError) as violation:
        side.receive(then)
    assert violation.value.code == code


def client(*received: object) -> ClientSide:
    side = ClientSide()
    for message in received:
        side.receive(native.encode(message))  # type: ignore[arg-type]
    return side


def test_a_client_numbers_its_sound() -> None:
    side = client(READY)
    sent = [native.decode_client(side.audio(b"\0\0")) for _ in range(3)]
    assert [message.seq for message in sent if isinstance(message, UserAudio)] == [0, 1, 2]
    assert native.decode_client(side.end()) == End()


def test_a_client_may_not_speak_before_ready_nor_after_end() -> None:
    with pytest.raises(RuntimeError, match="sound may not be sent while the connection is greeting"):
        ClientSide().audio(b"")
    side = client(READY)
    side.end()
    with pytest.raises(RuntimeError, match="sound may not be sent while the connection is ending"):
        side.audio(b"")
    with pytest.raises(RuntimeError, match="End may not be sent"):
        side.end()


@pytest.mark.parametrize(
    ("received", "then"),
    [
        ((), Text(0, "a")),
        ((READY,), READY),
        ((READY,), ReplyAudio(1, True, 0.0, b"")),
        ((READY, ReplyAudio(0, True, 0.0, b"")), ReplyAudio(0, True, 0.0, b"")),
        ((Error(code="x", message="y"),), READY),
        ((READY, Error(code="x", message="y")), Text(0, "a")),
    ],
)
def test_a_server_out_of_order_is_refused(received: tuple[object, ...], then: object) -> None:
    side = client(*received)
    with pytest.raises(ViolationError) as violation:
        side.receive(native.encode(then))  # type: ignore[arg-type]
    assert violation.value.code == "out_of_order"
