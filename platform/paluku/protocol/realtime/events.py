"""The words of the OpenAI Realtime protocol (GA): what comes in is read here, what goes out is named here."""

import json
from collections.abc import Container
from typing import Any, NamedTuple

from paluku.errors import ProtocolError
from paluku.protocol.messages import TurnTaking
from paluku.voices import VoiceName

Event = dict[str, Any]  # one JSON object of the wire

CLIENT_EVENTS = (
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.retrieve",
    "conversation.item.truncate",
    "conversation.item.delete",
    "response.create",
    "response.cancel",
    "output_audio_buffer.clear",
)
# Every type a server of this protocol sends; each is known to the four stock clients in tests/clients.
SERVER_EVENTS = (
    "session.created",
    "session.updated",
    "error",
    "input_audio_buffer.committed",
    "input_audio_buffer.cleared",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "conversation.item.added",
    "conversation.item.done",
    "conversation.item.retrieved",
    "conversation.item.truncated",
    "conversation.item.deleted",
    "conversation.item.input_audio_transcription.failed",
    "response.created",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_audio.delta",
    "response.output_audio_transcript.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
)
MAX_ID_CHARACTERS = 512


class Say(NamedTuple):
    """Send this event to the client."""

    event: Event


class Hear(NamedTuple):
    """Give the session this sound: PCM16 at the model's rate."""

    pcm: bytes


class Interrupt(NamedTuple):
    """Stop the reply now."""


class Adjust(NamedTuple):
    """Speak with this voice from now on."""

    voice: VoiceName


class TakeTurns(NamedTuple):
    """Who decides when the reply yields."""

    how: TurnTaking


class FreeRun(NamedTuple):
    """Step frames of silence while no sound waits, or stop doing so."""

    on: bool


class HeardUntil(NamedTuple):
    """The client has heard the reply's frames up to and without this one, and no more."""

    frame: int


class Forget(NamedTuple):
    """Clear the session's memory."""


Act = Say | Hear | Interrupt | Adjust | TakeTurns | FreeRun | HeardUntil | Forget


class RefusedError(ProtocolError):
    """A client event that is answered by an `error` event; the connection goes on."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param

    def __reduce__(self) -> tuple[type["RefusedError"], tuple[object, ...]]:
        """As pickle makes it again."""
        return type(self), (self.code, str(self), self.param)


class Namer:
    """Ids that are unique in the world when the session's name is: `event_<name>_<number>`."""

    def __init__(self, session: str, taken: Container[str] = ()) -> None:
        self._session = session
        self._taken = taken  # ids that clients gave, and may have made up like ours
        self._count = 0

    def new(self, kind: str) -> str:
        """The next id of a kind."""
        while True:
            self._count += 1
            name = f"{kind}_{self._session}_{self._count}"
            if name not in self._taken:
                return name


def read(text: str | bytes) -> Event:
    """A client's message as a JSON object with a type.

    Raises:
        RefusedError: when it is none.
    """
    try:
        event = json.loads(text)
    # ValueError: no JSON, no UTF-8, thousands of digits. RecursionError: thousands of brackets.
    except (ValueError, RecursionError) as error:
        raise RefusedError("invalid_json", f"the message is not JSON ({type(error).__name__})") from error
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise RefusedError("invalid_event", "an event is a JSON object with a string `type`", "type")
    return event


def write(event: Event) -> str:
    """An event as it goes into one text message. ASCII, because it may quote a lone surrogate."""
    return json.dumps(event, separators=(",", ":"))


def size_of(values: Event) -> int:
    """Bytes of an event, or a part of one, as JSON in UTF-8."""
    return len(json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def event_id_of(event: Event) -> str | None:
    """What the client named its event, if it did."""
    found = event.get("event_id")
    return found[:MAX_ID_CHARACTERS] if isinstance(found, str) else None


def error_event(event_id: str, error: RefusedError, caused_by: str | None, kind: str) -> Event:
    """An `error` event; `kind` is whose fault it is: invalid_request_error or server_error."""
    said = {
        "type": kind,
        "code": error.code,
        "message": str(error),
        "param": error.param,
        "event_id": caused_by,
    }
    return {"type": "error", "event_id": event_id, "error": said}


def text_at(values: Event, key: str, where: str = "") -> str:
    """A string that must be there.

    Raises:
        RefusedError: when it is not.
    """
    found = values.get(key)
    if not isinstance(found, str):
        raise RefusedError("invalid_value", f"{where}{key} must be a string", f"{where}{key}")
    return found


def object_at(values: Event, key: str, where: str = "") -> Event:
    """A JSON object; an empty one when there is none.

    Raises:
        RefusedError: when it is something else.
    """
    found = values.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise RefusedError("invalid_value", f"{where}{key} must be an object", f"{where}{key}")
    return found
