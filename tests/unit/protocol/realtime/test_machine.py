"""What the machine answers, by worked example. tests/unit/protocol/realtime/grammar.py checks each event."""

import base64
from typing import Any

import pytest

from paluku.protocol.realtime.events import Adjust, Forget, Hear, HeardUntil, Interrupt, TakeTurns
from paluku.protocol.realtime.floor import MAX_WAITING_FRAMES, PATIENCE_FRAMES
from tests.unit.protocol.realtime.grammar import FRAME_BYTES, SOUND, Talk, kinds

BEGIN = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
]
END = [
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
]


def update(talk: Talk, **session: Any) -> dict[str, Any]:
    (echo,) = talk.client("session.update", session={"type": "realtime", **session})
    assert echo["type"] == "session.updated", echo
    return echo["session"]


def manual() -> Talk:
    talk = Talk()
    update(talk, audio={"input": {"turn_detection": None}})
    return talk


def code(events: list[dict[str, Any]]) -> str:
    (event,) = events
    assert event["type"] == "error"
    return event["error"]["code"]


def speaking(text: str = "అవును") -> Talk:
    """A talk in which the reply has been audible for two frames."""
    talk = Talk()
    talk.user_turn()
    talk.reply(True, text)
    talk.reply(True)
    return talk


def done(talk: Talk) -> dict[str, Any]:
    assert talk.said[-1]["type"] == "response.done"
    return talk.said[-1]["response"]


def test_the_session_is_created_first_and_shows_what_is_in_force() -> None:
    talk = Talk()
    (created,) = talk.said
    assert created["type"] == "session.created"
    assert created["session"]["audio"]["input"]["turn_detection"]["type"] == "server_vad"
    assert created["session"]["audio"]["output"]["voice"] == "priya"
    assert talk.acts == [TakeTurns("vad")]


def test_an_update_is_echoed_whole_and_what_has_no_effect_is_not_there() -> None:
    talk = Talk()
    asked = {"input": {"transcription": {"model": "whisper-1"}}, "output": {"voice": "cedar", "speed": 1.5}}
    tools = [{"type": "function", "name": "f"}]
    session = update(talk, instructions="Be brief.", tools=tools, max_output_tokens=100, audio=asked)
    assert session.keys() == talk.said[0]["session"].keys()
    assert session["audio"]["output"]["voice"] == "ravi"
    assert session["max_output_tokens"] == 100
    assert (session["instructions"], session["tools"], session["tool_choice"]) == ("", [], "none")
    assert session["audio"]["input"]["transcription"] is None
    assert session["audio"]["output"]["speed"] == 1.0
    assert talk.acts[-1] == Adjust("ravi")


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"type": "transcription"}, "session.type"),
        ({"voice": "alloy"}, "session.voice"),
        ({"audio": {"output": {"voice": "nobody"}}}, "audio.output.voice"),
        ({"audio": {"input": {"format": {"type": "audio/opus"}}}}, "audio.input.format"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}}, "audio.input.format.rate"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"audio": []}, "session.audio"),
        ({"audio": {"input": {"turn_detection": {"type": "x"}}}}, "session.audio.input.turn_detection"),
    ],
)
def test_a_value_that_cannot_be_had_is_named_and_changes_nothing(session: dict[str, Any], param: str) -> None:
    talk = Talk()
    before = update(talk)
    changed = {"audio": {"output": {"voice": "ravi"}}, **session}
    (error,) = talk.client("session.update", event_id="mine", session=changed)
    assert error["error"]["param"] == param
    assert error["error"]["event_id"] == "mine"
    assert update(talk) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "invalid_json"),
        (b"\xff", "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        ("9" * 5000, "invalid_json"),
        ("[]", "invalid_event"),
        ('{"type": 1}', "invalid_event"),
        ('{"type": "response.sing"}', "unknown_event"),
        ('{"type": "output_audio_buffer.clear"}', "unsupported_event"),
        ('{"type": "input_audio_buffer.append", "audio": "?"}', "invalid_value"),
        ('{"type": "input_audio_buffer.append"}', "invalid_value"),
        ('{"type": "conversation.item.retrieve", "item_id": "x"}', "item_retrieve_invalid_item_id"),
        ('{"type": "conversation.item.delete", "item_id": "x"}', "item_delete_invalid_item_id"),
        (
            '{"type": "conversation.item.truncate", "item_id": "x", "audio_end_ms": 0}',
            "item_truncate_invalid_item_id",
        ),
        ('{"type": "input_audio_buffer.commit"}', "input_audio_buffer_commit_empty"),
        ('{"type": "response.cancel"}', "response_cancel_not_active"),
    ],
)
def test_what_cannot_be_done_is_an_error_event(text: str | bytes, expected: str) -> None:
    assert code(Talk().raw(text)) == expected


def test_a_reply_makes_a_response() -> None:
    talk = Talk()
    turn = talk.user_turn()
    assert kinds(turn) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]
    item = turn[-1]["item"]
    assert item["content"] == [{"type": "input_audio", "transcript": None}]
    assert {event["item_id"] for event in turn[:3]} == {item["id"]}
    assert (turn[0]["audio_start_ms"], turn[1]["audio_end_ms"]) == (0, 400)
    talk.reply(False, "న")  # the transcript runs ahead of the sound
    begun = talk.reply(True, "మ")
    assert kinds(begun[:4]) == BEGIN
    assert begun[2]["previous_item_id"] == item["id"]
    ended = talk.reply(True, "స్తే") + talk.news(talk.machine.reply_speech(False, talk.frame))
    assert [k for k in kinds(ended) if not k.endswith("delta")] == END
    response = done(talk)
    assert response["status"] == "completed"
    assert response["output"][0]["content"] == [{"type": "output_audio", "transcript": "నమస్తే"}]
    deltas = [e["delta"] for e in talk.said if e["type"] == "response.output_audio.delta"]
    assert len(b"".join(map(base64.b64decode, deltas))) == 2 * 960 * 2  # two frames at 24 kHz
    assert response["usage"]["input_tokens"] == 3
    assert response["usage"]["output_tokens"] == 2 + len("నమస్తే")


def test_cancelling_ends_the_response_and_what_is_on_its_way_is_not_said() -> None:
    talk = speaking()
    events = talk.client("response.cancel")
    assert kinds(events) == END
    assert done(talk)["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert talk.said[-2]["item"]["status"] == "incomplete"
    assert Interrupt() in talk.acts
    assert talk.reply(True) == []
    talk.news(talk.machine.interrupted(talk.frame))
    assert talk.reply(False) == []
    assert code(talk.client("response.cancel")) == "response_cancel_not_active"
    talk.user_turn()
    assert kinds(talk.reply(True))[:1] == ["response.created"]


def test_an_interruption_says_that_it_was_the_users_turn() -> None:
    talk = speaking()
    assert kinds(talk.news(talk.machine.user_speech(True, 2))) == ["input_audio_buffer.speech_started"]
    talk.news(talk.machine.interrupted(2))
    assert done(talk)["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert talk.news(talk.machine.reply_speech(False, 2)) == []


def test_a_second_response_is_refused_while_one_is_active() -> None:
    talk = speaking()
    (error,) = talk.client("response.create", event_id="second")
    assert error["error"]["code"] == "conversation_already_has_active_response"
    assert error["error"]["event_id"] == "second"


def test_backchannels_are_not_told_while_the_model_takes_turns_itself() -> None:
    talk = Talk()
    update(talk, audio={"input": {"turn_detection": {"type": "semantic_vad"}}})
    assert talk.acts[-1] == TakeTurns("semantic")
    talk.user_turn()
    talk.reply(True)
    assert talk.user_turn() == []
    talk.news(talk.machine.user_speech(True, 20))
    ended = talk.news(talk.machine.reply_speech(False, 25))
    assert kinds(ended)[-2:] == ["response.done", "input_audio_buffer.speech_started"]


def test_without_create_response_the_model_speaks_when_asked() -> None:
    talk = Talk()
    detection = {"type": "server_vad", "create_response": False, "interrupt_response": False}
    update(talk, audio={"input": {"turn_detection": detection}})
    assert talk.acts[-1] == TakeTurns("none")
    assert talk.reply(True) == []
    asked = talk.client("response.create", response={"metadata": {"client_event_id": "e1"}})
    assert asked[0]["response"]["metadata"] == {"client_event_id": "e1"}
    assert kinds(talk.reply(True))[:3] == BEGIN[1:]


def test_a_manual_turn_is_heard_at_its_commit_and_answered_when_asked() -> None:
    talk = manual()
    talk.client("input_audio_buffer.append", audio=SOUND)
    assert not talk.heard
    committed = talk.client("input_audio_buffer.commit")
    assert kinds(committed) == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]
    frames = len(talk.heard) // FRAME_BYTES
    assert (frames, len(talk.heard) % FRAME_BYTES) == (5, 0)
    assert not talk.runs_free
    talk.client("response.create")
    assert talk.runs_free
    assert talk.reply(True, "hm ") == []  # a backchannel, into the user's turn
    talk.news(talk.machine.reply_speech(False, 1))
    for _ in range(frames - 2):
        assert talk.reply(True, "x") == []  # the answer begins before the turn's last silence is over
    begun = talk.reply(True, "y")
    assert kinds(begun)[:3] == BEGIN[1:]
    talk.news(talk.machine.reply_speech(False, talk.frame))
    assert done(talk)["output"][0]["content"][0]["transcript"] == "xxxy"
    assert not talk.runs_free


def test_what_was_cleared_is_not_heard() -> None:
    talk = manual()
    talk.client("input_audio_buffer.append", audio=SOUND)
    assert kinds(talk.client("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
    assert code(talk.client("input_audio_buffer.commit")) == "input_audio_buffer_commit_empty"
    assert not talk.heard


def test_a_recording_reaches_the_session_as_it_is_stepped() -> None:
    talk = Talk()
    for _ in range(20):  # a hundred frames
        talk.client("input_audio_buffer.append", audio=SOUND)
    held = len(talk.heard)
    assert held == 25 * FRAME_BYTES
    talk.reply(False)
    assert len(talk.heard) == held + FRAME_BYTES


def test_a_minute_of_sound_may_wait() -> None:
    talk = manual()
    second = base64.b64encode(bytes(48_000)).decode()
    events: list[dict[str, Any]] = []
    while not events:
        events = talk.client("input_audio_buffer.append", audio=second)
    assert code(events) == "input_audio_buffer_full"
    talk.client("input_audio_buffer.commit")
    for _ in range(MAX_WAITING_FRAMES):
        talk.reply(False)
    assert 55 * 32_000 < len(talk.heard) <= MAX_WAITING_FRAMES * FRAME_BYTES


def test_text_alone_fails_its_response_and_the_next_one_may_speak() -> None:
    talk = Talk()
    content = [{"type": "input_text", "text": "Hello"}]
    item = {"id": "mine", "type": "message", "role": "user", "content": content}
    added = talk.client("conversation.item.create", item=item)
    assert kinds(added) == ["conversation.item.added", "conversation.item.done"]
    assert (added[0]["item"]["id"], added[0]["previous_item_id"]) == ("mine", None)
    assert kinds(talk.client("response.create")) == ["response.created", "response.done"]
    assert done(talk)["status"] == "failed"
    assert done(talk)["status_details"]["error"]["code"] == "text_not_followed"
    talk.client("response.create")
    assert kinds(talk.reply(True))[:3] == BEGIN[1:]
    assert code(talk.client("conversation.item.create", item=item)) == "item_create_duplicate_item_id"


def test_a_spoken_item_is_heard_and_answered() -> None:
    talk = manual()
    content = [{"type": "input_audio", "audio": SOUND}]
    item = {"type": "message", "role": "user", "content": content}
    (added, _) = talk.client("conversation.item.create", item=item)
    assert added["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    assert talk.heard
    assert kinds(talk.client("response.create")) == ["response.created"]


def test_a_model_that_says_nothing_completes_an_empty_response() -> None:
    talk = Talk()
    talk.client("response.create")
    for _ in range(PATIENCE_FRAMES):
        talk.reply(False)
    assert done(talk)["status"] == "completed"
    assert done(talk)["output"] == []


def test_a_response_ends_at_its_most_tokens() -> None:
    talk = Talk()
    talk.client("response.create", response={"max_output_tokens": 2})
    talk.reply(True)
    talk.reply(True)
    assert done(talk)["status"] == "incomplete"
    assert done(talk)["status_details"]["reason"] == "max_output_tokens"
    assert talk.reply(True) == []
    assert Interrupt() in talk.acts


def test_a_response_may_have_a_voice_and_a_format_of_its_own() -> None:
    talk = Talk()
    output = {"voice": "lakshmi", "format": {"type": "audio/pcma"}}
    (created,) = talk.client("response.create", response={"audio": {"output": output}})
    assert created["response"]["audio"]["output"] == {"voice": "lakshmi", "format": {"type": "audio/pcma"}}
    talk.reply(True)
    talk.news(talk.machine.reply_speech(False, 1))
    assert [act for act in talk.acts if isinstance(act, Adjust)] == [Adjust("lakshmi"), Adjust("priya")]
    deltas = [e["delta"] for e in talk.said if e["type"] == "response.output_audio.delta"]
    assert len(b"".join(map(base64.b64decode, deltas))) == 320


@pytest.mark.parametrize(
    ("end_ms", "frames", "text"), [(0, 0, ""), (40, 1, "a"), (41, 2, "ab"), (9e5, 3, "abc")]
)
def test_truncation_keeps_what_was_heard(end_ms: float, frames: int, text: str) -> None:
    talk = Talk()
    talk.reply(False)
    for piece in "abc":
        talk.reply(True, piece)
    talk.news(talk.machine.reply_speech(False, 4))
    item_id = done(talk)["output"][0]["id"]
    values = {"item_id": item_id, "content_index": 0, "audio_end_ms": end_ms}
    (cut,) = talk.client("conversation.item.truncate", **values)
    assert cut["audio_end_ms"] == min(end_ms, 120)
    assert talk.acts[-1] == HeardUntil(1 + frames)
    (found,) = talk.client("conversation.item.retrieve", item_id=item_id)
    assert found["item"]["content"] == [{"type": "output_audio", "transcript": text}]


def test_deleting_the_last_item_forgets() -> None:
    talk = Talk()
    (_, _, _, added, _) = talk.user_turn()
    assert kinds(talk.client("conversation.item.delete", item_id=added["item"]["id"])) == [
        "conversation.item.deleted"
    ]
    assert talk.acts[-1] == Forget()


def test_an_item_deleted_while_it_is_spoken_stays_deleted() -> None:
    talk = speaking()
    item_id = next(e["item"]["id"] for e in talk.said if e["type"] == "response.output_item.added")
    talk.client("conversation.item.delete", item_id=item_id)
    ended = talk.news(talk.machine.reply_speech(False, 9))
    assert "conversation.item.done" not in kinds(ended)
    assert code(talk.client("conversation.item.retrieve", item_id=item_id)).startswith("item_retrieve")


def test_items_are_placed_where_they_were_asked() -> None:
    talk = Talk()

    def put(name: str, **where: Any) -> str | None:
        content = [{"type": "input_text", "text": name}]
        item = {"id": name, "type": "message", "role": "system", "content": content}
        return talk.client("conversation.item.create", item=item, **where)[0]["previous_item_id"]

    assert [put("b"), put("c"), put("a", previous_item_id="root")] == [None, "b", None]
    assert [put("b2", previous_item_id="b"), put("d")] == ["b", "c"]
    item = {"id": "e", "type": "message", "role": "system", "content": []}
    bad = talk.client("conversation.item.create", item=item, previous_item_id="nowhere")
    assert code(bad) == "item_create_invalid_previous_item_id"


def test_transcription_that_was_asked_for_fails_for_each_turn() -> None:
    talk = Talk()
    update(talk, audio={"input": {"transcription": {"model": "whisper-1"}}})
    last = talk.user_turn()[-1]
    assert last["type"] == "conversation.item.input_audio_transcription.failed"
    assert last["error"]["code"] == "transcription_unavailable"


def test_silence_is_stepped_while_an_answer_is_due_and_no_microphone_is_on() -> None:
    talk = Talk()
    talk.client("input_audio_buffer.append", audio=SOUND)
    talk.news(talk.machine.user_speech(True, 0))
    assert not talk.runs_free
    talk.news(talk.machine.quiet())
    assert talk.runs_free
    talk.news(talk.machine.user_speech(False, 5))
    talk.client("input_audio_buffer.append", audio=SOUND)
    assert not talk.runs_free
    talk.news(talk.machine.quiet())
    for _ in range(PATIENCE_FRAMES):
        assert talk.runs_free
        talk.reply(False)
    assert not talk.runs_free


def test_switching_to_automatic_turns_hears_what_was_buffered() -> None:
    talk = manual()
    talk.client("input_audio_buffer.append", audio=SOUND)
    update(talk, audio={"input": {"turn_detection": {"type": "server_vad"}}})
    assert any(isinstance(act, Hear) for act in talk.acts)


def test_the_end_of_the_session_is_told() -> None:
    talk = speaking()
    said = talk.news(talk.machine.ended("stage_lost", "a stage was lost"))
    assert kinds(said)[-2:] == ["response.done", "error"]
    assert said[-2]["response"]["status"] == "failed"
    assert said[-1]["error"]["type"] == "server_error"


def user_item(name: str | None, text: str = "") -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": "user", "content": content} | ({"id": name} if name else {})


@pytest.mark.parametrize(
    "item",
    [
        user_item("big", "a" * 70_000),
        user_item("wide", "అ" * 25_000),
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": ""}] * 3_000},
        {"type": "function_call_output", "call_id": "c", "output": "o" * 70_000},
    ],
)
def test_an_item_has_a_greatest_size(item: dict[str, Any]) -> None:
    talk = Talk()
    assert code(talk.client("conversation.item.create", item=item)) == "item_too_large"
    assert talk.client("conversation.item.create", item=user_item("small"))[0]["previous_item_id"] is None


def test_sound_in_an_item_is_not_kept_and_does_not_count() -> None:
    sound = base64.b64encode(bytes(200_000)).decode()
    item = {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": sound}]}
    assert kinds(Talk().client("conversation.item.create", item=item))[0] == "conversation.item.added"


def test_where_items_are_too_many_bytes_the_oldest_go() -> None:
    talk = Talk()
    for number in range(30):  # 30 times 60,000 bytes: 17 are below a mebibyte
        talk.client("conversation.item.create", item=user_item(f"n{number}", "a" * 60_000))
    there = [
        number
        for number in range(30)
        if talk.client("conversation.item.retrieve", item_id=f"n{number}")[0]["type"] != "error"
    ]
    assert there == list(range(13, 30))
    for number in there:
        talk.client("conversation.item.delete", item_id=f"n{number}")
    assert talk.machine._floor.conversation._num_bytes == 0


@pytest.mark.parametrize("metadata", [{"a": "b" * 70_000}, {"a": {"b": "c"}}, {"a": 1}])
def test_metadata_is_bounded(metadata: dict[str, Any]) -> None:
    assert code(Talk().client("response.create", response={"metadata": metadata})) == "invalid_value"


def test_an_item_named_like_ours_is_no_obstacle() -> None:
    """Whatever number the server draws next, the client has been there."""
    talk = Talk()
    for number in range(60):
        talk.client("conversation.item.create", item=user_item(f"item_test_{number}"))
    talk.user_turn()
    talk.reply(True)
    talk.news(talk.machine.reply_speech(False, talk.frame))
    assert done(talk)["status"] == "completed"


def test_an_id_that_is_promised_is_taken() -> None:
    talk = Talk()
    (started,) = talk.news(talk.machine.user_speech(True, 0))
    item = user_item(started["item_id"])
    assert code(talk.client("conversation.item.create", item=item)) == "item_create_duplicate_item_id"
    talk.news(talk.machine.user_speech(False, 10))
    asked = talk.client("response.create")[0]["response"]["id"]
    promised = talk.machine._floor.response
    assert promised is not None
    assert asked == promised.response_id
    item = user_item(promised.item_id)
    assert code(talk.client("conversation.item.create", item=item)) == "item_create_duplicate_item_id"
    talk.reply(True)
