"""Whatever comes in whatever order, every event is answered, and each answer is in its place.

`make fuzz` runs the deep form.
"""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paluku.protocol.realtime.events import CLIENT_EVENTS
from tests.fuzz import EXAMPLES
from tests.unit.protocol.realtime.grammar import FRAME_BYTES, SOUND, Talk

NAMES = st.sampled_from(["a", "b", "root", "item_test_9", "item_test_12", "resp_test_7", ""])
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def fields(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the fields, each right or junk."""
    return st.fixed_dictionaries({}, optional={key: value | JUNK for key, value in known.items()})


FORMAT = fields(type=st.sampled_from(["audio/pcm", "audio/pcmu", "audio/pcma"]), rate=st.just(24_000))
DETECTION = fields(
    type=st.sampled_from(["server_vad", "semantic_vad"]),
    create_response=st.booleans(),
    interrupt_response=st.booleans(),
    prefix_padding_ms=st.integers(-1, 1000),
)
AUDIO = fields(
    input=fields(
        format=FORMAT, turn_detection=st.none() | DETECTION, transcription=fields(model=st.just("m"))
    ),
    output=fields(format=FORMAT, voice=st.sampled_from(["priya", "alloy", "x"])),
)
SESSION = fields(type=st.just("realtime"), audio=AUDIO, max_output_tokens=st.integers(1, 5) | st.just("inf"))
PART = fields(
    type=st.sampled_from(["input_text", "input_audio", "output_text", "output_audio"]),
    text=st.text(max_size=5),
    audio=st.just(SOUND),
)
ITEM = fields(
    id=NAMES,
    type=st.sampled_from(["message", "function_call", "function_call_output"]),
    role=st.sampled_from(["user", "assistant", "system"]),
    content=st.lists(PART, max_size=2),
    call_id=st.just("c"),
    output=st.just("o"),
)
RESPONSE = fields(
    metadata=st.just({"client_event_id": "x"}),
    conversation=st.sampled_from(["auto", "none"]),
    max_output_tokens=st.integers(1, 3),
    audio=fields(output=fields(voice=st.just("ravi"), format=FORMAT)),
)
EVENT = st.tuples(
    st.sampled_from([*CLIENT_EVENTS, "unknown"]),
    fields(
        event_id=st.text(max_size=5),
        session=SESSION,
        audio=st.sampled_from([SOUND, "", "?", "AAA="]),
        item=ITEM,
        item_id=NAMES,
        response=RESPONSE,
        response_id=NAMES,
        audio_end_ms=st.integers(-1, 500),
        previous_item_id=NAMES,
    ),
)
NEWS = st.sampled_from(
    ["loud", "loud", "silent", "absent", "user", "user stops", "reply", "reply stops", "interrupted", "quiet"]
)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(steps=st.lists(EVENT | NEWS, max_size=30))
def test_every_event_is_answered_in_its_place(steps: list[Any]) -> None:
    talk = Talk()
    for step in steps:
        if isinstance(step, str):
            _news(talk, step)
            continue
        kind, values = step
        said = talk.raw(json.dumps({**values, "type": kind}))
        assert said or kind == "input_audio_buffer.append"
    assert len(talk.heard) <= (25 + talk.frame) * FRAME_BYTES
    talk.news(talk.machine.ended("done", "enough"))
    assert talk.grammar.active is None


def _news(talk: Talk, what: str) -> None:
    machine, frame = talk.machine, talk.frame
    match what:
        case "loud" | "silent" | "absent":
            talk.reply(what == "loud", "అ" if what == "loud" else "", what != "absent")
        case "user" | "user stops":
            talk.news(machine.user_speech(what == "user", frame))
        case "reply" | "reply stops":
            talk.news(machine.reply_speech(what == "reply", frame))
        case "interrupted":
            talk.news(machine.interrupted(frame))
        case _:
            talk.news(machine.quiet())


@settings(max_examples=EXAMPLES)
@given(text=st.text() | st.binary() | JUNK.map(json.dumps))
def test_any_text_is_answered_by_an_event(text: str | bytes) -> None:
    (event,) = Talk().raw(text)
    assert event["type"] == "error"
