"""Who has the floor: the user's turns, the model's responses, and the sound between them. No I/O.

The model is full duplex: it listens and speaks all the time. A response begins when the reply becomes
audible or is asked for, and ends when it has fallen silent, is interrupted, or is too long.
"""

from typing import NamedTuple

import numpy as np

from paluku.protocol.messages import TurnTaking
from paluku.protocol.realtime.audio import RATES_HZ, SAMPLE_BYTES, Ear
from paluku.protocol.realtime.conversation import Conversation
from paluku.protocol.realtime.events import (
    Act,
    Adjust,
    Event,
    FreeRun,
    Hear,
    Interrupt,
    Namer,
    RefusedError,
    Say,
    TakeTurns,
    error_event,
)
from paluku.protocol.realtime.pacing import Pace
from paluku.protocol.realtime.response import COMPLETED, TOO_LONG, Asked, Outcome, Response
from paluku.protocol.realtime.settings import Settings

# A response that was asked for and is not audible after 5 s of sound will not come: the model is silent.
PATIENCE_FRAMES = 125
# The session says when a reply has fallen silent; should that be lost in a move, 3 s of silence say it too.
SILENT_FRAMES = 75
# What the session may be given before it has answered: half of the two seconds it holds.
HELD_FRAMES = 25
# Sound that may wait to be stepped: a minute, as whole recordings are sent at once.
MAX_WAITING_FRAMES = 1500
# Responses that can still be cut: a client cuts the one it plays.
MAX_SPOKEN = 20
# A transcript runs ahead of its sound by a few frames; what came longer before belongs to no response.
MAX_TEXT_AHEAD = 100


class Facts(NamedTuple):
    """What the machine knows of the server."""

    model: str
    sample_rate_hz: int
    frame_samples: int
    threshold: float = 0.5  # of speech, in the server's voice activity detection
    silence_ms: int = 500  # that ends a turn there

    @property
    def frame_ms(self) -> int:
        """How long a frame is."""
        return self.frame_samples * 1000 // self.sample_rate_hz


class Frame(NamedTuple):
    """A reply frame."""

    number: int
    pcm: np.ndarray  # int16 [S] at the model's rate
    is_present: bool
    is_audible: bool
    text: str


class Speech(NamedTuple):
    """A stretch of the user's speech that goes on."""

    item_id: str
    frame: int
    is_told: bool


class Floor:
    """One connection's state, called by the machine. What is to be done gathers until `done`."""

    def __init__(self, session_id: str, facts: Facts) -> None:
        self.facts = facts
        self.conversation = Conversation()
        self.ids = Namer(session_id, self.conversation)
        self._conversation_id = f"conv_{session_id}"
        self.settings = Settings()
        self._ear = Ear(self.settings.input_format, facts.sample_rate_hz)
        self._pace = Pace(2 * facts.frame_samples, HELD_FRAMES)
        self._buffer = bytearray()  # appended and not committed, while turns are the client's
        self.response: Response | None = None
        self.spoken: dict[str, Response] = {}  # by item, for truncation
        self._speech: Speech | None = None
        self._text_ahead = ""
        self._early: list[Frame] = []  # audible, and no response to say it in yet: turns are the client's
        self._heard_frames = 0  # since the last response
        self.owes_text = False  # the last turn was text alone
        self._is_muted = False  # what is audible was cancelled, and is still on its way
        self._is_quiet = True  # the client sends no sound at the moment
        self._answer_due_frames = 0  # how long the reply to the user's speech is waited for
        self._is_free = False
        self._acts: list[Act] = []

    # What the session says.

    def reply_frame(self, number: int, pcm: np.ndarray, present: bool, audible: bool, text: str) -> list[Act]:
        """The reply to one frame: int16 `[S]` at the model's rate, and the transcript that came with it."""
        self._answered()
        frame = Frame(number, pcm, present, audible and present, text)
        if self._is_muted and frame.is_audible:
            return self.done()
        self._is_muted = False
        if frame.is_audible and self._is_early():
            self._early = [*self._early, frame][-MAX_WAITING_FRAMES:]
            return self.done()
        if frame.is_audible and self._may_speak():
            self._begin()
        early, self._early = self._early, []
        for one in [*early, frame] if frame.is_audible else [frame]:
            self._go_on(one)
        return self.done()

    def user_speech(self, started: bool, frame: int) -> list[Act]:
        """The user began to speak at a frame, or had stopped by it."""
        if self.settings.turn_detection is None:
            return self.done()
        if started and self._speech is None:
            self._speech = Speech(self.ids.new("item"), frame, False)
            if not self._holds_back():
                self._tell_speech()
        elif not started and self._speech is not None:
            speech, self._speech = self._speech, None
            self._answer_due_frames = PATIENCE_FRAMES
            if speech.is_told:
                end = {"item_id": speech.item_id, "audio_end_ms": self._ms(frame)}
                self.say({"type": "input_audio_buffer.speech_stopped", **end})
                self._end_turn(speech.item_id)
        return self.done()

    def reply_speech(self, started: bool, frame: int) -> list[Act]:  # noqa: ARG002 (frames say when)
        """The reply became audible, or had fallen silent. Its frames say the former."""
        if not started:
            self._is_muted = False
            self._early = []
            if self.response is not None and self.response.is_speaking:
                self.finish(COMPLETED)
        return self.done()

    def interrupted(self, frame: int) -> list[Act]:  # noqa: ARG002 (all that was sent is before it)
        """The reply from a frame on is not to be heard."""
        self._is_muted = False
        self._text_ahead, self._early = "", []
        if self.response is not None and self.response.is_speaking:
            self.finish(Outcome.cancelled("turn_detected"))
        return self.done()

    def quiet(self) -> list[Act]:
        """No sound has come from the client for a while: a reply must not wait for it."""
        self._is_quiet = True
        return self.done()

    def ended(self, code: str, message: str) -> list[Act]:
        """The session ends for a reason that is not the client's; the last events before the close."""
        if self.response is not None:
            self.finish(Outcome.failed(code, message))
        self.do(Say(error_event(self.ids.new("event"), RefusedError(code, message), None, "server_error")))
        return self.done()

    # How a response lives.

    def open(self, asked: Asked) -> Response:
        """A response exists from now on."""
        response = Response(self.ids, self._conversation_id, asked, self.facts.sample_rate_hz)
        self.response = response
        self._answer_due_frames = 0
        self.say(response.created())
        return response

    def _is_early(self) -> bool:
        """Whether what the model says has to wait: the client's turn is not over, or not to be answered yet.

        What it has said by the turn's end is its answer; what it said and ended before, a backchannel.
        """
        return self.settings.turn_detection is None and (
            self.response is None or self._pace.behind_frames > 0
        )

    def _may_speak(self) -> bool:
        if self.response is not None:
            return not self.response.is_speaking
        detection = self.settings.turn_detection
        return detection is not None and detection.create_response

    def _begin(self) -> None:
        limit, is_limited = self.settings.max_output_tokens, self.settings.is_limited
        own = Asked(self.settings.output_format, self.settings.voice, limit, is_limited)
        response = self.response or self.open(own)
        item = response.begin()
        self.spoken[response.item_id] = response
        while len(self.spoken) > MAX_SPOKEN:
            del self.spoken[next(iter(self.spoken))]
        self.say(response.item_added())
        self.add_item(item, None)
        self.say(response.part_added())

    def _go_on(self, frame: Frame) -> None:
        self._text_ahead = (self._text_ahead + frame.text)[-MAX_TEXT_AHEAD:]
        response = self.response
        if response is None:
            return
        if not response.is_speaking:
            response.waited_frames += self._pace.behind_frames == 0
            if response.waited_frames >= PATIENCE_FRAMES:
                self.finish(COMPLETED)
            return
        response.silent_frames = 0 if frame.is_audible else response.silent_frames + 1
        if frame.is_present:
            text, self._text_ahead = self._text_ahead, ""
            for event in response.say(frame.number, frame.pcm, text):
                self.say(event)
        if response.silent_frames >= SILENT_FRAMES:
            self.finish(COMPLETED)
        elif response.is_too_long:
            self._is_muted = True
            self.finish(TOO_LONG)
            self.do(Interrupt())

    def finish(self, outcome: Outcome) -> None:
        """The active response ends."""
        response, self.response = self.response, None
        assert response is not None, "no response is active"
        item, events = response.finish(outcome)
        for event in events[:-1]:
            self.say(event)
        if item is not None:
            self._complete(item)
            self.say(events[-1])
        self.say(response.done(outcome, self._heard_frames))
        self._heard_frames = 0
        if response.asked.voice != self.settings.voice:
            self.do(Adjust(self.settings.voice))
        if self._speech is not None and not self._speech.is_told:
            self._tell_speech()

    def _complete(self, item: Event) -> None:
        """The item as it stays; the client may have deleted it meanwhile."""
        if item["id"] in self.conversation:
            self.conversation.replace(item)
            previous = self.conversation.before(item["id"])
            self.say({"type": "conversation.item.done", "previous_item_id": previous, "item": item})

    # How the user's turn lives.

    def _holds_back(self) -> bool:
        """While the model speaks and yields by itself, what may be a backchannel is not told.

        Stock clients stop playing when they are told of speech.
        """
        return self.how == "semantic" and self.response is not None and self.response.is_speaking

    def _tell_speech(self) -> None:
        assert self._speech is not None, "nobody speaks"
        self._speech = self._speech._replace(is_told=True)
        detection = self.settings.turn_detection
        padding_ms = detection.prefix_padding_ms if detection else 0
        start = {"item_id": self._speech.item_id}
        start_ms = max(0, self._ms(self._speech.frame) - padding_ms)
        self.say({"type": "input_audio_buffer.speech_started", **start, "audio_start_ms": start_ms})

    def _end_turn(self, item_id: str) -> None:
        """The user's turn is whole: it becomes an item."""
        self.owes_text = False
        previous = self.conversation.last_id
        item = {"id": item_id, "object": "realtime.item", "type": "message", "status": "completed"}
        item |= {"role": "user", "content": [{"type": "input_audio", "transcript": None}]}
        committed = {"previous_item_id": previous, "item_id": item_id}
        self.say({"type": "input_audio_buffer.committed", **committed})
        self.add_item(item, None)
        if self.settings.wants_transcription:
            self.say(_no_transcription(item_id))

    def is_promised(self, item_id: str) -> bool:
        """Whether an item of ours will have that id: the user's turn that goes on, or the response's."""
        response, speech = self.response, self._speech
        return (speech is not None and speech.item_id == item_id) or (
            response is not None and not response.is_speaking and response.item_id == item_id
        )

    def add_item(self, item: Event, behind: str | None) -> None:
        """The conversation takes an item. Raises RefusedError when it cannot stand there."""
        placed = self.conversation.add(item, behind)
        for kind in ("added", "done")[: 1 if item["status"] == "in_progress" else 2]:
            said = {"previous_item_id": placed.previous_item_id, "item": dict(item)}
            self.say({"type": f"conversation.item.{kind}", **said})

    # What the client does.

    def adopt(self, new: Settings) -> None:
        """Other settings are in force."""
        old, self.settings = self.settings, new
        if new.input_format != old.input_format:
            self._ear = Ear(new.input_format, self.facts.sample_rate_hz)
        if new.voice != old.voice:
            self.do(Adjust(new.voice))
        if new.turn_detection != old.turn_detection:
            self.do(TakeTurns(self.how))
            self._speech, self._early = None, []
            self.listen(bytes(self._buffer) if new.turn_detection else b"")
            self._buffer.clear()

    def append(self, data: bytes) -> None:
        """Sound of the client's. Raises RefusedError when more would wait than may."""
        self.check_room(data)
        pcm = self._ear.hear(data)
        self._is_quiet = False
        if self.settings.turn_detection is None:
            self._buffer += pcm
        else:
            self.listen(pcm)

    def check_room(self, data: bytes) -> None:
        """Whether so much sound of the client's may wait. Raises RefusedError when not."""
        name, facts = self.settings.input_format, self.facts
        frame_bytes = RATES_HZ[name] * SAMPLE_BYTES[name] * facts.frame_samples // facts.sample_rate_hz
        frames = (
            self._pace.behind_frames + (len(self._buffer) // 2 + facts.frame_samples) // facts.frame_samples
        )
        if frames + len(data) // frame_bytes > MAX_WAITING_FRAMES:
            limit = MAX_WAITING_FRAMES * facts.frame_ms // 1000
            raise RefusedError("input_audio_buffer_full", f"at most {limit} s of sound may wait", "audio")

    def commit(self) -> None:
        """The client ends the user's turn. Raises RefusedError when there is none."""
        if self.settings.turn_detection is not None:
            if self._speech is None or not self._speech.is_told:
                raise RefusedError("input_audio_buffer_commit_empty", "no speech is in the buffer")
            self._end_turn(self._speech.item_id)
            self._speech = None
            return
        self._buffer += self._ear.finish()
        if not self._buffer:
            raise RefusedError("input_audio_buffer_commit_empty", "the buffer is empty")
        self._buffer += bytes(-len(self._buffer) % (2 * self.facts.frame_samples))
        self.listen(bytes(self._buffer))
        self._buffer.clear()
        self._end_turn(self.ids.new("item"))

    def clear(self) -> None:
        """What was appended and not heard yet is dropped."""
        self._ear = Ear(self.settings.input_format, self.facts.sample_rate_hz)
        self._buffer.clear()
        if self.settings.turn_detection is not None:
            self._pace.clear()
        self.say({"type": "input_audio_buffer.cleared"})

    def cancel(self, response_id: object) -> None:
        """The client ends the response. Raises RefusedError when it is not active."""
        active = self.response
        if active is None or response_id not in (None, active.response_id):
            raise RefusedError(
                "response_cancel_not_active", "Cancellation failed: no active response found", "response_id"
            )
        self._is_muted = True
        self.finish(Outcome.cancelled("client_cancelled"))
        self.do(Interrupt())

    # How sound and silence reach the session.

    def listen(self, pcm: bytes) -> None:
        """Sound at the model's rate, for the session: now, or as soon as it has room."""
        self._hear(self._pace.push(pcm))

    def _answered(self) -> None:
        self._heard_frames += 1
        self._answer_due_frames = max(0, self._answer_due_frames - 1)
        self._hear(self._pace.stepped())

    def _hear(self, pcm: bytes) -> None:
        if pcm:
            self.do(Hear(pcm))

    def _runs_free(self) -> bool:
        """Whether silence is stepped when there is no sound: a reply goes on without a microphone."""
        if self.settings.turn_detection is None:
            return self.response is not None
        is_open = self.response is not None or self._speech is not None or self._answer_due_frames > 0
        return self._is_quiet and is_open

    # The rest.

    @property
    def how(self) -> TurnTaking:
        """Who decides when the reply yields, as the session knows it."""
        return self.settings.turn_detection.how if self.settings.turn_detection else "none"

    def _ms(self, frame: int) -> int:
        return frame * self.facts.frame_ms

    def say(self, event: Event) -> None:
        """An event for the client; it gets its id here."""
        self.do(Say({"event_id": self.ids.new("event"), **event}))

    def do(self, act: Act) -> None:
        """Something to be done, behind what was said before."""
        self._acts.append(act)

    def done(self) -> list[Act]:
        """Everything to be done since the last call."""
        if self._runs_free() != self._is_free:
            self._is_free = not self._is_free
            self.do(FreeRun(self._is_free))
        acts, self._acts = self._acts, []
        return acts


def _no_transcription(item_id: str) -> Event:
    error = {"type": "invalid_request_error", "code": "transcription_unavailable", "param": None}
    error["message"] = "the user's speech is not transcribed here"
    kind = "conversation.item.input_audio_transcription.failed"
    return {"type": kind, "item_id": item_id, "content_index": 0, "error": error}
