import logging
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.protocol.messages import CloseCode, ViolationError
from paluku.serving.config import LimitsConfig, SecurityConfig, ServingConfig
from paluku.serving.gate import Gate, Pass, Refused, TokenBucket, bearer, refusal
from tests.fakes.clock import FakeClock

KEY = "pk_a-key-long-enough-for-anyone"
OTHER = "pk_another-key-of-another-one"
LOCKED = {"PALUKU_KEYS": f"phone={KEY},desk={OTHER}"}
RIGHT = {"authorization": f"Bearer {KEY}"}


def gate(environ: dict[str, str] | None = None, clock: FakeClock | None = None, **config: object) -> Gate:
    return Gate(ServingConfig.model_validate(config), clock or FakeClock(), environ or {})


def admitted(door: Gate, headers: dict[str, str] | None = None, key: str | None = None) -> Pass:
    return door.admit(headers or {}, "192.0.2.7", key)


def refused(door: Gate, headers: dict[str, str] | None = None, key: str | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        admitted(door, headers, key)
    return caught.value


def test_without_keys_the_door_is_open_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        door = gate()
        for _ in range(3):
            assert admitted(door).holder == "open"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no keys are configured" in caplog.text


def test_with_keys_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        admitted(gate(LOCKED), RIGHT)
    assert not caplog.records


@pytest.mark.parametrize(
    "headers",
    [
        RIGHT,
        {"authorization": f"bearer  {KEY} "},
        {"sec-websocket-protocol": f"realtime, openai-insecure-api-key.{KEY}, openai-beta.realtime-v1"},
    ],
)
def test_a_key_opens_in_each_of_its_places(headers: dict[str, str]) -> None:
    door = gate(LOCKED)
    door.knock(headers)
    assert admitted(door, headers).holder == "phone"


def test_a_key_may_be_said_by_the_protocol_and_the_headers_win() -> None:
    door = gate(LOCKED)
    door.knock({})  # it may still come
    assert admitted(door, key=OTHER).holder == "desk"
    assert admitted(door, RIGHT, key=OTHER).holder == "phone"
    assert refused(door, {"authorization": "Bearer wrong"}, key=KEY).code == "unauthorized"


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, None),
        ({}, "wrong"),
        ({}, ""),
        ({"authorization": "Bearer "}, None),
        ({"authorization": f"Basic {KEY}"}, None),
        ({"authorization": f"Bearer {KEY}x"}, None),
        ({"authorization": f"Bearer {KEY[:-1]}"}, None),
        ({"sec-websocket-protocol": KEY}, None),
    ],
)
def test_a_wrong_or_missing_key_is_401_and_1008(headers: dict[str, str], key: str | None) -> None:
    error = refused(gate(LOCKED), headers, key)
    assert (error.http_status, error.close_code, error.code) == (401, CloseCode.POLICY, "unauthorized")
    assert error.ending.error is not None
    assert error.ending.error.code == "unauthorized"
    assert KEY not in str(error)


def test_a_wrong_key_in_the_headers_is_refused_at_the_handshake() -> None:
    with pytest.raises(Refused, match="not known here"):
        gate(LOCKED).knock({"authorization": "Bearer wrong"})


def test_an_address_never_holds_a_key() -> None:
    assert bearer({"host": f"example.org/?key={KEY}"}) is None


@pytest.mark.parametrize(
    ("origins", "headers", "is_let_in"),
    [
        ([], {}, True),  # no browser
        ([], {"origin": "https://speech.example.org", "host": "speech.example.org"}, True),
        ([], {"origin": "https://evil.example", "host": "speech.example.org"}, False),
        ([], {"origin": "null", "host": "speech.example.org"}, False),
        ([], {"origin": "null"}, False),
        ([], {"origin": "http://[", "host": "speech.example.org"}, False),
        ([], {"origin": "http://[", "host": "["}, False),
        ([], {"origin": "http://[::1", "host": "[::1"}, False),
        ([], {"origin": ""}, False),
        (["https://app.example.org"], {"origin": "https://App.example.org", "host": "x"}, True),
        (["https://app.example.org"], {"origin": "http://app.example.org", "host": "x"}, False),
        (["https://app.example.org"], {"origin": "https://app.example.org.evil.example", "host": "x"}, False),
        (["https://app.example.org"], {"origin": "https://app.example.org:8443", "host": "x"}, False),
        (["*"], {"origin": "https://evil.example", "host": "x"}, True),
    ],
)
def test_which_pages_may_connect(origins: list[str], headers: dict[str, str], is_let_in: bool) -> None:
    door = gate(LOCKED, security={"origins": origins})
    for ask in (door.knock, door.check_operator, lambda h: admitted(door, h)):
        if is_let_in:
            ask(headers | RIGHT)
            continue
        with pytest.raises(Refused) as caught:
            ask(headers | RIGHT)
        assert (caught.value.http_status, caught.value.code) == (403, "forbidden_origin")


@pytest.mark.parametrize(
    ("host", "is_let_in"),
    [("localhost:8000", True), ("127.0.0.1:8000", True), ("[::1]:8000", True), ("evil.example:8000", False)],
)
def test_an_open_door_trusts_no_name_that_may_be_rebound(host: str, is_let_in: bool) -> None:
    headers = {"origin": f"http://{host}", "host": host}
    if is_let_in:
        admitted(gate(), headers)
    else:
        assert refused(gate(), headers).code == "forbidden_origin"


def test_sessions_of_a_key_are_bounded_and_places_come_back() -> None:
    door = gate(LOCKED, limits={"sessions_per_key": 2})
    with admitted(door, RIGHT), admitted(door, RIGHT) as second:
        error = refused(door, RIGHT)
        assert (error.http_status, error.close_code, error.code) == (429, 1013, "too_many_sessions")
        assert error.retry_s is not None
        with admitted(door, key=OTHER):
            pass  # another key's places are its own
        second.release()
        with admitted(door, RIGHT):
            assert refused(door, RIGHT).code == "too_many_sessions"
        second.release()  # a second time, nothing
        with admitted(door, RIGHT):
            assert refused(door, RIGHT).code == "too_many_sessions"
    assert not door._held


def test_a_place_is_free_after_an_error() -> None:
    door = gate(LOCKED, limits={"sessions_per_key": 1})
    with pytest.raises(RuntimeError), admitted(door, RIGHT):
        raise RuntimeError
    admitted(door, RIGHT)


def test_new_sessions_are_bounded_in_time() -> None:
    clock = FakeClock()
    door = gate(LOCKED, clock, limits={"new_sessions_per_minute": 6})
    for _ in range(6):
        admitted(door, RIGHT).release()
    error = refused(door, RIGHT)
    assert (error.http_status, error.code, error.retry_s) == (429, "too_many_new_sessions", 10)
    admitted(door, key=OTHER)
    assert error.retry_s is not None
    clock.advance(error.retry_s)
    admitted(door, RIGHT).release()
    assert refused(door, RIGHT).code == "too_many_new_sessions"


def test_an_open_door_counts_by_address() -> None:
    door = gate(limits={"new_sessions_per_minute": 1})
    door.admit({}, "192.0.2.1")
    door.admit({}, "192.0.2.2")
    with pytest.raises(Refused):
        door.admit({}, "192.0.2.1")


def test_addresses_that_went_away_are_forgotten() -> None:
    clock = FakeClock()
    door = gate(clock=clock, limits={"new_sessions_per_minute": 60})
    for n in range(1_000):
        door.admit({}, f"10.0.{n // 256}.{n % 256}").release()
        clock.advance(0.1)
    assert len(door._arrivals) <= 12  # a second fills a bucket again, ten came in it


def test_refusals_are_counted_by_code() -> None:
    door = gate(LOCKED)
    for _ in range(2):
        refused(door)
    refused(door, {"origin": "https://evil.example", "host": "x"})
    assert door.refusals == {"unauthorized": 2, "forbidden_origin": 1}


def test_sound_in_real_time_passes_for_ever() -> None:
    clock = FakeClock()
    pass_ = admitted(gate(clock=clock, limits={"sound_rate": 1.0, "sound_burst_s": 1.0}))
    for _ in range(10_000):
        pass_.sound(0.04, clock.now())
        clock.advance(0.04)


def test_sound_faster_than_its_burst_and_rate_is_too_fast() -> None:
    clock = FakeClock()
    pass_ = admitted(gate(clock=clock, limits={"sound_rate": 1.25, "sound_burst_s": 5.0}))
    pass_.sound(5.0, clock.now())
    with pytest.raises(ViolationError) as caught:
        pass_.sound(0.04, clock.now())
    assert (caught.value.code, caught.value.close_code) == ("too_fast", CloseCode.POLICY)
    clock.advance(4.0)
    pass_.sound(5.0, clock.now())


def test_clips_and_their_messages_may_be_longer() -> None:
    door = gate(limits={"clip_burst_s": 60, "max_event_bytes": 100_000})
    clips = door.admit({}, "192.0.2.7", takes_clips=True)
    clips.sound(60.0, 0.0)
    clips.message(100_000, 0.0)
    with pytest.raises(ViolationError, match="faster"):
        admitted(door).sound(60.0, 0.0)
    with pytest.raises(ViolationError) as caught:
        admitted(door).message(65_537, 0.0)
    assert (caught.value.code, caught.value.close_code) == ("too_big", CloseCode.TOO_BIG)
    admitted(door).message(65_536, 0.0)


def test_operators_say_their_key_in_the_header_and_nowhere_else() -> None:
    door = gate(LOCKED)
    door.check_operator(RIGHT)
    with pytest.raises(Refused) as caught:
        door.check_operator({"sec-websocket-protocol": f"realtime, openai-insecure-api-key.{KEY}"})
    assert (caught.value.http_status, caught.value.code) == (401, "unauthorized")


def test_a_handed_over_place_is_held_until_its_new_holder_frees_it() -> None:
    door = gate(LOCKED, limits={"sessions_per_key": 1})
    with admitted(door, RIGHT) as pass_:
        release = pass_.hand_over()
    assert refused(door, RIGHT).code == "too_many_sessions"
    release()
    release()  # a second time, nothing
    with admitted(door, RIGHT):
        assert refused(door, RIGHT).code == "too_many_sessions"
    assert not door._held


def test_a_chain_of_resumes_holds_one_place() -> None:
    door = gate(LOCKED, limits={"sessions_per_key": 1})
    with admitted(door, RIGHT) as first:
        held = first.hand_over()
    for _ in range(5):
        with door.admit(RIGHT, "192.0.2.7", resumes=True) as again:
            displaced, held = held, again.hand_over()
            displaced()
        with door.admit(RIGHT, "192.0.2.7", resumes=True):
            pass  # one that finds nothing to resume
        assert refused(door, RIGHT).code == "too_many_sessions"
    held()
    assert not door._held


@pytest.mark.parametrize("takes_clips", [False, True])
def test_messages_are_bounded_in_time(takes_clips: bool) -> None:
    clock = FakeClock()
    limits = {"message_rate": 10, "message_burst": 20, "event_burst": 20}
    pass_ = gate(clock=clock, limits=limits).admit({}, "192.0.2.7", takes_clips=takes_clips)
    for _ in range(20):
        pass_.message(1, clock.now())
    with pytest.raises(ViolationError) as caught:
        pass_.message(1, clock.now())
    assert (caught.value.code, caught.value.close_code) == ("too_many_messages", CloseCode.POLICY)
    clock.advance(1)
    for _ in range(10):
        pass_.message(1, clock.now())


def test_the_bytes_of_messages_are_bounded_in_time() -> None:
    pass_ = admitted(gate(limits={"bytes_rate": 1_024, "bytes_burst": 10_240}))
    pass_.message(10_240, 0.0)
    with pytest.raises(ViolationError, match="faster"):
        pass_.message(1_025, 1.0)
    pass_.message(1_024, 1.0)


def test_stock_clients_stay_below_the_limits_of_messages() -> None:
    clock = FakeClock()
    native, stock = (gate(clock=clock).admit({}, "192.0.2.7", takes_clips=clips) for clips in (False, True))
    for _ in range(250):  # ten seconds of 48 kHz behind a resume
        native.message(48_000 * 2 // 25, clock.now())
    for _ in range(3_000):  # a minute's recording in pieces of 20 ms, in base64
        stock.message(1_280 + 100, clock.now())
    clock.advance(60)
    for _ in range(6_000):  # then a microphone's 50 a second
        stock.message(1_380, clock.now())
        clock.advance(0.02)


def test_a_session_has_a_last_instant() -> None:
    clock = FakeClock()
    clock.advance(7)
    assert admitted(gate(clock=clock, limits={"max_session_s": 60})).deadline_s == 67
    assert admitted(gate(limits={"max_session_s": None})).deadline_s == math.inf


def test_a_refusal_in_http_says_when_to_come_back() -> None:
    answer = refusal(Refused(429, CloseCode.TRY_AGAIN, "too_many_sessions", "end one first", 2.5))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert answer.body == b"too_many_sessions: end one first\n"
    locked = refusal(Refused(401, CloseCode.POLICY, "unauthorized", "a key is needed"))
    assert locked.headers["www-authenticate"] == "Bearer"
    assert "retry-after" not in locked.headers


def test_a_refusal_travels_between_processes() -> None:
    error = Refused(429, CloseCode.TRY_AGAIN, "too_many_sessions", "end one first", 2.5)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.http_status, copy.ending) == (429, error.ending)


@given(
    rate=st.floats(0.5, 10),
    burst=st.floats(0.5, 10),
    steps=st.lists(st.tuples(st.floats(0, 3), st.floats(0, 2)), max_size=50),
)
def test_no_more_passes_a_bucket_than_its_burst_and_rate(
    rate: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    bucket, now_s, passed = TokenBucket(rate, burst, 0.0), 0.0, 0.0
    for amount, pause_s in steps:
        taken = bucket.take(amount, now_s)
        passed += amount if taken else 0.0
        assert passed <= burst + rate * now_s + 1e-6
        if not taken and amount <= burst:  # who waits as long as was said gets it
            now_s += bucket.wait_s(amount, now_s)
            assert bucket.take(amount, now_s)
            passed += amount
        now_s += pause_s


def test_the_defaults_leave_room_for_real_clients() -> None:
    limits, security = LimitsConfig(), SecurityConfig()
    assert limits.sound_burst_s > ServingConfig().max_waiting_frames * 0.04
    assert limits.max_message_bytes > 48_000 * 2 * 0.04  # a frame of the highest rate
    assert not security.origins
