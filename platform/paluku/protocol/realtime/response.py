"""One response: the events of its life in their order, and what it has said so far."""

import base64
from typing import Any, NamedTuple

import numpy as np

from paluku.protocol.realtime.audio import RATES_HZ, SAMPLE_BYTES, FormatName, Mouth
from paluku.protocol.realtime.events import Event, Namer
from paluku.protocol.realtime.settings import format_echo
from paluku.voices import VoiceName

_INDEX = {"output_index": 0, "content_index": 0}


class Asked(NamedTuple):
    """What a response is made with."""

    format: FormatName
    voice: VoiceName
    max_tokens: int
    is_limited: bool
    metadata: dict[str, Any] | None = None
    is_requested: bool = False  # by the client; or else the model spoke on its own


class Outcome(NamedTuple):
    """How a response ends: the protocol's status, and why."""

    status: str
    details: Event | None = None

    @staticmethod
    def cancelled(reason: str) -> "Outcome":
        """By the client (`client_cancelled`) or by the user's speech (`turn_detected`)."""
        return Outcome("cancelled", {"type": "cancelled", "reason": reason})

    @staticmethod
    def failed(code: str, message: str) -> "Outcome":
        """The model cannot do what was asked."""
        error = {"type": "invalid_request_error", "code": code, "message": message}
        return Outcome("failed", {"type": "failed", "error": error})


COMPLETED = Outcome("completed")
TOO_LONG = Outcome("incomplete", {"type": "incomplete", "reason": "max_output_tokens"})


class Response:
    """From `response.created` to `response.done`. It speaks at most one item, of one part of sound."""

    def __init__(self, ids: Namer, conversation_id: str, asked: Asked, model_hz: int) -> None:
        self.asked = asked
        self.response_id = ids.new("resp")
        self.item_id = ids.new("item")
        self.is_speaking = False
        self.waited_frames = 0  # asked for, and not audible yet
        self.silent_frames = 0  # since it was last audible
        self.frames: list[tuple[int, str]] = []  # number and text of each frame said
        self._conversation_id = conversation_id
        self._mouth: Mouth | None = Mouth(asked.format, model_hz)
        self._said_bytes = 0
        self._item: Event = {"id": self.item_id, "object": "realtime.item", "type": "message"}
        self._item |= {"role": "assistant", "status": "in_progress", "content": []}

    @property
    def is_too_long(self) -> bool:
        """Whether it has said as much as it may."""
        return len(self.frames) >= self.asked.max_tokens

    @property
    def transcript(self) -> str:
        """What it has said."""
        return "".join(text for _, text in self.frames)

    def created(self) -> Event:
        """It exists; nothing is said yet."""
        return {"type": "response.created", "response": self._snapshot("in_progress", None, None)}

    def begin(self) -> Event:
        """It becomes audible; gives the item that the conversation takes."""
        assert not self.is_speaking, "a response begins to speak once"
        self.is_speaking = True
        return dict(self._item)

    def item_added(self) -> Event:
        """The item is part of the response."""
        return {**self._place("response.output_item.added", 1), "item": dict(self._item)}

    def part_added(self) -> Event:
        """The item's one part."""
        return {**self._place("response.content_part.added"), "part": {"type": "audio", "transcript": ""}}

    def say(self, number: int, pcm: np.ndarray, text: str) -> list[Event]:
        """One frame of sound, int16 `[S]`, and the text that came with it."""
        assert self.is_speaking, "a response speaks after it began"
        assert self._mouth, "a response that is over says nothing"
        self.frames.append((number, text))
        spoken = [self._text(text)] if text else []
        return [*spoken, *self._sound(self._mouth.say(pcm))]

    def finish(self, outcome: Outcome) -> tuple[Event | None, list[Event]]:
        """The item as it is at the end, if it spoke; and the events up to its `output_item.done`."""
        if not self.is_speaking:
            return None, []
        assert self._mouth, "a response ends once"
        # What is cut off is not to be heard: what the resampler holds back is not, either.
        rest = [] if outcome.status == "cancelled" else self._sound(self._mouth.finish())
        self._mouth = None  # the response stays, to be cut: its resampler need not
        part = {"type": "output_audio", "transcript": self.transcript}
        status = "completed" if outcome.status == "completed" else "incomplete"
        self._item |= {"status": status, "content": [part]}
        item = dict(self._item)
        events: list[Event] = [
            *rest,
            self._place("response.output_audio.done"),
            {**self._place("response.output_audio_transcript.done"), "transcript": self.transcript},
            {
                **self._place("response.content_part.done"),
                "part": {"type": "audio", "transcript": self.transcript},
            },
            {**self._place("response.output_item.done", 1), "item": item},
        ]
        return item, events

    def done(self, outcome: Outcome, heard_frames: int) -> Event:
        """The end of it. A token is a frame of sound, or a character of the transcript."""
        sound, text = len(self.frames), len(self.transcript)
        usage = {
            "total_tokens": heard_frames + sound + text,
            "input_tokens": heard_frames,
            "output_tokens": sound + text,
            "input_token_details": {"text_tokens": 0, "audio_tokens": heard_frames, "cached_tokens": 0},
            "output_token_details": {"text_tokens": text, "audio_tokens": sound},
        }
        return {"type": "response.done", "response": self._snapshot(outcome.status, outcome.details, usage)}

    def frame_at(self, said_ms: int) -> int:
        """The number of the first frame that is not heard when playing stops after so many milliseconds."""
        assert self.frames, "a response without sound has no frames"
        index = min(len(self.frames), -(-said_ms // self._frame_ms))
        return self.frames[0][0] + index

    def said_ms(self) -> int:
        """How long its sound is."""
        name = self.asked.format
        return self._said_bytes * 1000 // (RATES_HZ[name] * SAMPLE_BYTES[name])

    @property
    def _frame_ms(self) -> int:
        return max(1, self.said_ms() // len(self.frames))

    def _sound(self, data: bytes) -> list[Event]:
        self._said_bytes += len(data)
        delta = base64.b64encode(data).decode()
        return [{**self._place("response.output_audio.delta"), "delta": delta}] if data else []

    def _text(self, text: str) -> Event:
        return {**self._place("response.output_audio_transcript.delta"), "delta": text}

    def _place(self, kind: str, depth: int = 2) -> Event:
        place = {"type": kind, "response_id": self.response_id}
        if depth == 1:  # about the item
            return {**place, "output_index": 0}
        return {**place, "item_id": self.item_id, **_INDEX}

    def _snapshot(self, status: str, details: Event | None, usage: Event | None) -> Event:
        output = {"format": format_echo(self.asked.format), "voice": self.asked.voice}
        return {
            "object": "realtime.response",
            "id": self.response_id,
            "conversation_id": self._conversation_id,
            "status": status,
            "status_details": details,
            "output": [dict(self._item)] if self.is_speaking and usage is not None else [],
            "output_modalities": ["audio"],
            "audio": {"output": output},
            "max_output_tokens": self.asked.max_tokens if self.asked.is_limited else "inf",
            "metadata": self.asked.metadata,
            "usage": usage,
        }
