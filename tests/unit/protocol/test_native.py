import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.protocol import native
from paluku.protocol.messages import (
    Adjust,
    Align,
    ClientMessage,
    CloseCode,
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

SECRET = "sesame-opens"

GOLDEN_CLIENT: list[tuple[ClientMessage, bytes]] = [
    (
        Hello(
            sample_rate_hz=16000,
            voice="ravi",
            style="laugh",
            seed=7,
            capabilities=("text",),
            resume=ResumeRequest(token="t", next_reply=9),
            key="k",
        ),
        (
            b'\x01{"version":2,"encoding":"pcm16","sample_rate_hz":16000,"voice":"ravi","style":"laugh","seed":7,'
            b'"temperature":null,"top_k":null,"turn_taking":"semantic","capabilities":["text"],'
            b'"resume":{"token":"t","next_reply":9},"key":"k"}'
        ),
    ),
    (UserAudio(258, b"\x01\x02\x03\x04"), b"\x02\x02\x01\x00\x00\x01\x02\x03\x04"),
    (UserAudio(2**32 - 1, b""), b"\x02\xff\xff\xff\xff"),
    (End(), b"\x03"),
    (Adjust(style="happy"), b'\x04{"voice":null,"style":"happy","temperature":null,"top_k":null}'),
    (Interrupt(), b"\x05"),
    (Forget(), b"\x06"),
    (Played(258), b"\x07\x02\x01\x00\x00"),
    (Mark("న"), b"\x08\xe0\xb0\xa8"),
]

GOLDEN_SERVER: list[tuple[ServerMessage, bytes]] = [
    (
        Ready(
            session_id="ab",
            resume_token="cd",
            grace_s=30.0,
            sample_rate_hz=16000,
            frame_samples=640,
            frame_ms=40.0,
            acoustic_delay_frames=1,
            next_frame=3,
            next_reply=4,
            tick_in_ms=12.5,
            lead_ms=12.0,
            capabilities=("align",),
            server="paluku/0",
        ),
        (
            b'\x81{"version":2,"session_id":"ab","resume_token":"cd","grace_s":30.0,"sample_rate_hz":16000,'
            b'"frame_samples":640,"frame_ms":40.0,"acoustic_delay_frames":1,"next_frame":3,"next_reply":4,'
            b'"tick_in_ms":12.5,"lead_ms":12.0,"capabilities":["align"],"server":"paluku/0"}'
        ),
    ),
    (
        ReplyAudio(3, present=True, audible=False, spent_ms=1.5, sound=b"\x05\x06"),
        b"\x82\x03\x00\x00\x00\x01\x00\x00\xc0\x3f\x05\x06",
    ),
    (
        ReplyAudio(0, present=True, audible=True, spent_ms=0.0, sound=b"\x00\x00"),
        b"\x82\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00",
    ),
    (Text(1, "న"), b"\x83\x01\x00\x00\x00\xe0\xb0\xa8"),
    (
        Stats(frames_in=2, frames_out=1, late_frames=0, tick_p50_ms=1.0, tick_p99_ms=2.0, margin_ms=None),
        b'\x84{"frames_in":2,"frames_out":1,"late_frames":0,"tick_p50_ms":1.0,"tick_p99_ms":2.0,"margin_ms":null}',
    ),
    (
        Error(code="no_seat", message="తర్వాత", retry_s=5.0),
        b'\x85{"code":"no_seat","message":"\\u0c24\\u0c30\\u0c4d\\u0c35\\u0c3e\\u0c24","retry_s":5.0}',
    ),
    (Turn("reply", "stopped", 258), b"\x86\x01\x01\x02\x01\x00\x00"),
    (Interrupted(258), b"\x87\x02\x01\x00\x00"),
    (Align(-1.5), b"\x88\x00\x00\xc0\xbf"),
    (Marked(1, "a"), b"\x89\x01\x00\x00\x00a"),
    (UserText(258, "ఆ"), b"\x8a\x02\x01\x00\x00\xe0\xb0\x86"),
]


@pytest.mark.parametrize(("message", "data"), GOLDEN_CLIENT, ids=lambda v: type(v).__name__)
def test_client_messages_byte_for_byte(message: ClientMessage, data: bytes) -> None:
    assert native.encode(message) == data
    assert native.decode_client(data) == message


@pytest.mark.parametrize(("message", "data"), GOLDEN_SERVER, ids=lambda v: type(v).__name__)
def test_server_messages_byte_for_byte(message: ServerMessage, data: bytes) -> None:
    assert native.encode(message) == data
    assert native.decode_server(data) == message


def test_every_kind_has_a_golden_value() -> None:
    assert {data[0] for _, data in (*GOLDEN_CLIENT, *GOLDEN_SERVER)} == set(native.Kind)


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
GOLDEN = st.sampled_from([data for _, data in (*GOLDEN_CLIENT, *GOLDEN_SERVER)])


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A right message with bytes changed, cut off or put in."""
    data = bytearray(draw(GOLDEN))
    for _ in range(draw(st.integers(0, 3))):
        where = draw(st.integers(0, len(data)))
        data[where : where + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(data)


ANYTHING = st.one_of(
    st.binary(max_size=80), mutated(), st.builds(bytes.__add__, KINDS, st.binary(max_size=40) | JSON_LIKE)
)


@deep
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
    [b"[" * 50_000, b"9" * 5_000, b'{"version":' + b"9" * 5_000 + b"}", b"\xff", b"null", b"NaN", b'{"a":1}'],
)
@pytest.mark.parametrize("kind", [0x01, 0x04, 0x81, 0x84, 0x85])
def test_hostile_json_is_a_violation(kind: int, body: bytes) -> None:
    decode = native.decode_server if kind & 0x80 else native.decode_client
    with pytest.raises(ViolationError):
        decode(bytes([kind]) + body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"version":2,"sample_rate_hz":16000,"key":["%s"]}',
        b'{"version":2,"sample_rate_hz":16000,"key":"%s","seed":-1}',
        b'{"version":2,"sample_rate_hz":16000,"resume":{"token":"%s","next_reply":-1}}',
        b'{"version":2,"sample_rate_hz":16000,"%s":1,"temperature":NaN}',
        b'["%s"]',
        b'{"version":2,"sample_rate_hz":16000,"key":"%s"',
    ],
)
def test_a_violation_quotes_no_value_for_it_may_be_a_key(body: bytes) -> None:
    with pytest.raises(ViolationError) as violation:
        native.decode_client(b"\x01" + body.replace(b"%s", SECRET.encode()))
    told = f"{violation.value} {violation.value.__cause__}"
    assert SECRET not in told or f'"{SECRET}":1'.encode() in body.replace(b"%s", SECRET.encode())


def test_a_key_and_a_token_are_not_shown() -> None:
    hello = Hello(sample_rate_hz=16000, key=SECRET, resume=ResumeRequest(token=SECRET, next_reply=0))
    ready = Ready.model_validate({**GOLDEN_SERVER[0][0].model_dump(), "resume_token": SECRET})  # type: ignore[union-attr]
    assert SECRET not in f"{hello!r} {hello} {ready!r} {ready}"


def test_a_violation_says_how_to_close() -> None:
    with pytest.raises(ViolationError) as too_big:
        native.decode_client(b"\x02" + bytes(native.MAX_MESSAGE_BYTES))
    assert (too_big.value.code, too_big.value.close_code) == ("too_big", CloseCode.TOO_BIG)
    native.decode_client(b"\x02" + bytes(native.MAX_MESSAGE_BYTES - 1))


@pytest.mark.parametrize(
    "key", ['"seed":-1', '"seed":9223372036854775808', '"temperature":NaN', '"temperature":-1', '"top_k":0']
)
def test_what_no_seat_can_hold_is_refused(key: str) -> None:
    data = b'\x01{"version":2,"sample_rate_hz":16000,%b}' % key.encode()
    with pytest.raises(ViolationError, match=key.split('"')[1]):
        native.decode_client(data)


@pytest.mark.parametrize("version", [b"1", b"3", b"null", b'"2"'])
def test_another_version_is_named(version: bytes) -> None:
    with pytest.raises(ViolationError, match="must say version 2") as violation:
        native.decode_client(b'\x01{"version":%b,"sample_rate_hz":16000}' % version)
    assert violation.value.code == "unsupported_version"


def test_flags_that_are_not_known_yet_are_ignored() -> None:
    data = struct.pack("<BIBf", 0x82, 0, 0xFC, 0.0)
    assert native.decode_server(data) == ReplyAudio(0, present=False, audible=False, spent_ms=0.0, sound=b"")


@pytest.mark.parametrize(
    "data",
    [
        b"\x03\x00",  # End, Interrupt and Forget have no body
        b"\x05\x00",
        b"\x06\x00",
        b"\x07\x00\x00\x00",
        b"\x07\x00\x00\x00\x00\x00",
        b"\x08" + b"a" * 65,
        b"\x08\xff",
    ],
)
def test_a_body_of_another_size_is_malformed(data: bytes) -> None:
    with pytest.raises(ViolationError) as violation:
        native.decode_client(data)
    assert violation.value.code == "malformed"


@pytest.mark.parametrize(
    "data",
    [
        b"\x86\x02\x00\x00\x00\x00\x00",
        b"\x86\x00\x02\x00\x00\x00\x00",
        b"\x87\x00\x00\x00",
        b"\x88" + struct.pack("<f", math.nan),
        b"\x88" + struct.pack("<f", math.inf),
        b"\x82\x00\x00\x00\x00\x00" + struct.pack("<f", math.nan),
        b"\x89\x00\x00\x00\x00" + b"a" * 65,
    ],
)
def test_a_server_that_talks_nonsense_is_found_out(data: bytes) -> None:
    with pytest.raises(ViolationError) as violation:
        native.decode_server(data)
    assert violation.value.code == "malformed"
