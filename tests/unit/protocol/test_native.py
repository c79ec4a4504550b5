import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.protocol import native
from paluku.protocol.messages import (
    ClientMessage,
    CloseCode,
    End,
    Error,
    Hello,
    Ready,
    ReplyAudio,
    ServerMessage,
    Stats,
    Text,
    UserAudio,
    ViolationError,
)

GOLDEN_CLIENT: list[tuple[ClientMessage, bytes]] = [
    (
        Hello(sample_rate_hz=16000, voice="ravi", style="laugh", seed=7),
        b'\x01{"version":1,"sample_rate_hz":16000,"voice":"ravi","style":"laugh","seed":7}',
    ),
    (UserAudio(258, b"\x01\x02\x03\x04"), b"\x02\x02\x01\x00\x00\x01\x02\x03\x04"),
    (UserAudio(2**32 - 1, b""), b"\x02\xff\xff\xff\xff"),
    (End(), b"\x03"),
]

GOLDEN_SERVER: list[tuple[ServerMessage, bytes]] = [
    (
        Ready(
            session_id="ab", sample_rate_hz=16000, frame_samples=640, frame_ms=40.0, acoustic_delay_frames=1
        ),
        (
            b'\x81{"version":1,"session_id":"ab","sample_rate_hz":16000,"frame_samples":640,'
            b'"frame_ms":40.0,"acoustic_delay_frames":1}'
        ),
    ),
    (
        ReplyAudio(3, present=True, spent_ms=1.5, pcm=b"\x05\x06"),
        b"\x82\x03\x00\x00\x00\x01\x00\x00\xc0\x3f\x05\x06",
    ),
    (
        ReplyAudio(0, present=False, spent_ms=0.0, pcm=b"\x00\x00"),
        b"\x82\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    ),
    (Text(1, "న"), b"\x83\x01\x00\x00\x00\xe0\xb0\xa8"),
    (
        Stats(frames_in=2, frames_out=1, late_frames=0, tick_p50_ms=1.0, tick_p99_ms=2.0),
        b'\x84{"frames_in":2,"frames_out":1,"late_frames":0,"tick_p50_ms":1.0,"tick_p99_ms":2.0}',
    ),
    (
        Error(code="no_seat", message="తర్వాత", retry_s=5.0),
        b'\x85{"code":"no_seat","message":"\\u0c24\\u0c30\\u0c4d\\u0c35\\u0c3e\\u0c24","retry_s":5.0}',
    ),
]


@pytest.mark.parametrize(("message", "data"), GOLDEN_CLIENT, ids=lambda v: type(v).__name__)
def test_client_messages_byte_for_byte(message: ClientMessage, data: bytes) -> None:
    assert native.encode(message) == data
    assert native.decode_client(data) == message


@pytest.mark.parametrize(("message", "data"), GOLDEN_SERVER, ids=lambda v: type(v).__name__)
def test_server_messages_byte_for_byte(message: ServerMessage, data: bytes) -> None:
    assert native.encode(message) == data
    assert native.decode_server(data) == message


def test_close_codes_are_the_registered_ones() -> None:
    # RFC 6455, section 7.4.1, and https://www.iana.org/assignments/websocket
    assert {code.name: code.value for code in CloseCode} == {
        "DONE": 1000,
        "GOING_AWAY": 1001,
        "PROTOCOL_ERROR": 1002,
        "NOT_BINARY": 1003,
        "POLICY": 1008,
        "TOO_BIG": 1009,
        "STAGE_LOST": 1011,
        "RESTARTING": 1012,
        "TRY_AGAIN": 1013,
    }


KINDS = st.sampled_from([bytes([kind]) for kind in native.Kind])
JSON_LIKE = st.text('{}[]":,0123456789.eE-+ntfu\\versionsampl_rhz \ud800', max_size=60).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)
ANYTHING = st.one_of(
    st.binary(max_size=80), st.builds(bytes.__add__, KINDS, st.binary(max_size=40) | JSON_LIKE)
)


@given(ANYTHING)
def test_any_bytes_are_a_message_or_a_violation(data: bytes) -> None:
    for decode in (native.decode_client, native.decode_server):
        try:
            message = decode(data)
        except ViolationError as error:
            native.encode(Error(code=error.code, message=str(error)))  # it can be told
        else:
            assert decode(native.encode(message)) == message or "nan" in repr(message)


@pytest.mark.parametrize(
    "body",
    [b"[" * 50_000, b"9" * 5_000, b'{"version":' + b"9" * 5_000 + b"}", b"\xff", b"null", b"NaN", b"{}"],
)
@pytest.mark.parametrize("kind", [0x01, 0x81, 0x84, 0x85])
def test_hostile_json_is_a_violation(kind: int, body: bytes) -> None:
    decode = native.decode_server if kind & 0x80 else native.decode_client
    with pytest.raises(ViolationError):
        decode(bytes([kind]) + body)


def test_a_violation_says_how_to_close() -> None:
    with pytest.raises(ViolationError) as too_big:
        native.decode_client(b"\x02" + bytes(native.MAX_MESSAGE_BYTES))
    assert (too_big.value.code, too_big.value.close_code) == ("too_big", CloseCode.TOO_BIG)
    native.decode_client(b"\x02" + bytes(native.MAX_MESSAGE_BYTES - 2))  # one less, and whole samples


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_no_seat_can_hold_is_refused(seed: int) -> None:
    data = b'\x01{"version":1,"sample_rate_hz":16000,"seed":%d}' % seed
    with pytest.raises(ViolationError, match="seed"):
        native.decode_client(data)


def test_flags_that_are_not_known_yet_are_ignored() -> None:
    data = struct.pack("<BIBf", 0x82, 0, 0xFE, 0.0)
    assert native.decode_server(data) == ReplyAudio(0, present=False, spent_ms=0.0, pcm=b"")
