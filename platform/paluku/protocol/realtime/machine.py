"""A Realtime connection as a state machine: client events and the session's news in, acts out. No I/O.

The events are read here; what comes of them is the floor's. docs/realtime.md is the prose.
"""

import numpy as np

from paluku.protocol.realtime.audio import Ear
from paluku.protocol.realtime.conversation import read_item, sound_of
from paluku.protocol.realtime.events import (
    Act,
    Adjust,
    Event,
    Forget,
    HeardUntil,
    RefusedError,
    Say,
    TakeTurns,
    error_event,
    event_id_of,
    object_at,
    read,
    size_of,
    text_at,
)
from paluku.protocol.realtime.floor import Facts, Floor
from paluku.protocol.realtime.response import Asked, Outcome
from paluku.protocol.realtime.settings import read_format, read_max_tokens, read_voice

TEXT_NOT_FOLLOWED = Outcome.failed(
    "text_not_followed", "this model hears speech and follows no text: say it in input_audio"
)
# OpenAI's 16 pairs of 64 and 512 characters, in any script.
MAX_METADATA_BYTES = 65_536
OUT_OF_BAND = Outcome.failed(
    "out_of_band_not_supported", "this model has one conversation: leave out `conversation` and `input`"
)


class Machine:
    """One connection. Every method gives what is to be done, in order; `start` comes first."""

    def __init__(self, session_id: str, facts: Facts) -> None:
        self._session_id = f"sess_{session_id}"
        self._floor = Floor(session_id, facts)

    def start(self) -> list[Act]:
        """The first events."""
        self._floor.do(TakeTurns(self._floor.how))
        self._floor.say({"type": "session.created", "session": self._echo()})
        return self._floor.done()

    # What the client says.

    def receive(self, text: str | bytes) -> list[Act]:
        """One message of the client. What cannot be done is answered by an `error` event."""
        caused_by = None
        try:
            event = read(text)
            caused_by = event_id_of(event)
            self._obey(event)
        except RefusedError as error:
            self._floor.do(
                Say(error_event(self._floor.ids.new("event"), error, caused_by, "invalid_request_error"))
            )
        return self._floor.done()

    def _obey(self, event: Event) -> None:  # noqa: C901 (one line for each kind of event)
        match event["type"]:
            case "session.update":
                self._update(object_at(event, "session"))
            case "input_audio_buffer.append":
                self._floor.append(sound_of(event, "audio"))
            case "input_audio_buffer.commit":
                self._floor.commit()
            case "input_audio_buffer.clear":
                self._floor.clear()
            case "conversation.item.create":
                self._create_item(event)
            case "conversation.item.retrieve":
                item = self._floor.conversation.get(
                    text_at(event, "item_id"), "item_retrieve_invalid_item_id"
                )
                self._floor.say({"type": "conversation.item.retrieved", "item": item})
            case "conversation.item.truncate":
                self._truncate(event)
            case "conversation.item.delete":
                self._delete(text_at(event, "item_id"))
            case "response.create":
                self._create_response(object_at(event, "response"))
            case "response.cancel":
                self._floor.cancel(event.get("response_id"))
            case "output_audio_buffer.clear":
                message = "only WebRTC and SIP have an output buffer; use response.cancel"
                raise RefusedError("unsupported_event", message, "type")
            case kind:
                raise RefusedError("unknown_event", f"no client event is called {kind[:100]!r}", "type")

    def _update(self, asked: Event) -> None:
        self._floor.adopt(self._floor.settings.updated(asked))
        self._floor.say({"type": "session.updated", "session": self._echo()})

    def _create_item(self, event: Event) -> None:
        item, sounds = read_item(event.get("item"), self._floor.ids)
        behind = event.get("previous_item_id")
        if behind is not None and not isinstance(behind, str):
            raise RefusedError("invalid_value", "previous_item_id must be a string", "previous_item_id")
        if self._floor.is_promised(item["id"]):
            raise RefusedError("item_create_duplicate_item_id", "this id is taken", "item.id")
        self._floor.check_room(b"".join(sounds))
        self._floor.add_item(item, behind)
        for sound in sounds:
            ear = Ear(self._floor.settings.input_format, self._floor.facts.sample_rate_hz)
            self._floor.listen(ear.hear(sound) + ear.finish())
        if sounds:
            self._floor.owes_text = False
        elif item["type"] == "function_call_output" or item.get("role") == "user":
            self._floor.owes_text = True

    def _truncate(self, event: Event) -> None:
        name, end_ms = text_at(event, "item_id"), event.get("audio_end_ms")
        item = self._floor.conversation.get(name, "item_truncate_invalid_item_id")
        if isinstance(end_ms, bool) or not isinstance(end_ms, int | float) or not 0 <= end_ms < 1e9:
            raise RefusedError("invalid_value", "audio_end_ms must be a number from 0 on", "audio_end_ms")
        response = self._floor.spoken.get(name)
        if response is None:
            raise RefusedError("invalid_value", "only an item that was spoken can be cut", "item_id")
        end_ms = min(int(end_ms), response.said_ms())
        if response.frames:
            frame = response.frame_at(end_ms)
            if item["content"]:
                heard = "".join(text for number, text in response.frames if number < frame)
                item["content"] = [{"type": "output_audio", "transcript": heard}]
            self._floor.do(HeardUntil(frame))
        said = {"item_id": name, "content_index": 0, "audio_end_ms": end_ms}
        self._floor.say({"type": "conversation.item.truncated", **said})

    def _delete(self, name: str) -> None:
        self._floor.conversation.delete(name)
        self._floor.spoken.pop(name, None)
        self._floor.say({"type": "conversation.item.deleted", "item_id": name})
        if not len(self._floor.conversation):
            self._floor.do(Forget())

    def _create_response(self, params: Event) -> None:
        if self._floor.response is not None:
            message = (
                f"Conversation already has an active response in progress: {self._floor.response.response_id}"
            )
            raise RefusedError("conversation_already_has_active_response", message)
        asked = self._asked(params)
        response = self._floor.open(asked)
        if params.get("conversation") == "none" or params.get("input"):
            self._floor.finish(OUT_OF_BAND)
        elif self._floor.owes_text:
            self._floor.owes_text = False
            self._floor.finish(TEXT_NOT_FOLLOWED)
        elif response.asked.voice != self._floor.settings.voice:
            self._floor.do(Adjust(response.asked.voice))

    def _asked(self, params: Event) -> Asked:
        output = object_at(object_at(params, "audio", "response."), "output", "response.audio.")
        limit = read_max_tokens(params, self._floor.settings.max_output_tokens)
        return Asked(
            read_format(output, "output", self._floor.settings.output_format),
            read_voice(output, self._floor.settings.voice),
            limit,
            self._floor.settings._replace(max_output_tokens=limit).is_limited,
            _metadata(params),
            is_requested=True,
        )

    # What the session says.

    def reply_frame(self, number: int, pcm: np.ndarray, present: bool, audible: bool, text: str) -> list[Act]:
        """The reply to one frame: int16 `[S]` at the model's rate, and the transcript that came with it."""
        return self._floor.reply_frame(number, pcm, present, audible, text)

    def user_speech(self, started: bool, frame: int) -> list[Act]:
        """The user began to speak at a frame, or had stopped by it."""
        return self._floor.user_speech(started, frame)

    def reply_speech(self, started: bool, frame: int) -> list[Act]:
        """The reply became audible at a frame, or had fallen silent by it."""
        return self._floor.reply_speech(started, frame)

    def interrupted(self, frame: int) -> list[Act]:
        """The reply from a frame on is not to be heard."""
        return self._floor.interrupted(frame)

    def quiet(self) -> list[Act]:
        """No sound has come from the client for a while: a reply must not wait for it."""
        return self._floor.quiet()

    def ended(self, code: str, message: str) -> list[Act]:
        """The session ends for a reason that is not the client's; the last events before the close."""
        return self._floor.ended(code, message)

    def _echo(self) -> Event:
        facts = self._floor.facts
        settings = self._floor.settings
        return settings.echo(self._session_id, facts.model, facts.threshold, facts.silence_ms)


def _metadata(params: Event) -> Event | None:
    """What is echoed with a response, and kept as long as it: strings by name, as OpenAI's."""
    found = object_at(params, "metadata", "response.")
    if not all(isinstance(value, str) for value in found.values()) or size_of(found) > MAX_METADATA_BYTES:
        message = f"response.metadata holds strings, {MAX_METADATA_BYTES} bytes together"
        raise RefusedError("invalid_value", message, "response.metadata")
    return found or None
