"""One client's session: what waits on its way in and on its way out, what it remembers, how it ends."""

import asyncio
import hashlib
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from paluku.protocol.messages import CloseCode
from paluku.serving.events import (
    Align,
    Ending,
    Event,
    Interrupted,
    Marked,
    ReplyFrame,
    Report,
    UserSpeech,
    UserText,
)
from paluku.serving.lane import Answer
from paluku.serving.seating import Seating
from paluku.streaming.alignment import Aligner
from paluku.streaming.frames import Frame, FrameBuffer, FrameOverflowError
from paluku.streaming.memory import SessionMemory
from paluku.streaming.ports import FIRST_CODE, OUR_TEXT, USER_TEXT, Conditions
from paluku.streaming.turns import Interrupt, TurnEvent, TurnTaking, TurnTracker
from paluku.tokens.text import TextStream

# Where the probability that the user spoke in a frame will be, by session id.
Heard = asyncio.Future[dict[str, float]]

# How long a model that was interrupted hears itself be silent before it may speak again: a short pause.
HUSH_FRAMES = 5


class Transcripts(NamedTuple):
    """Tokens in, text out, of both sides."""

    own: TextStream
    user: TextStream


class Identity(NamedTuple):
    """Who a session is. The token is the client's secret: whoever has it may resume the session."""

    session_id: str
    token: str

    @staticmethod
    def new() -> "Identity":
        """A new session's."""
        return Identity(secrets.token_hex(8), secrets.token_urlsafe(24))

    @property
    def key(self) -> str:
        """The token, hashed: what leaves this process."""
        return hash_token(self.token)


def hash_token(token: str) -> str:
    """Name a token without telling it."""
    return hashlib.sha256(token.encode()).hexdigest()


class Session:
    """State of one client. The connection fills `frames` and empties `outbox`; the service does the rest.

    `ending` is decided once: the first one stays.
    """

    def __init__(
        self,
        identity: Identity,
        conditions: Conditions,
        seating: Seating,
        memory: SessionMemory,
        frames: FrameBuffer,
        transcripts: Transcripts,
        turns: TurnTracker,
        aligner: Aligner,
        max_waiting: int,
        first_reply: int = 0,
        patience_frames: int | None = None,
    ) -> None:
        """`patience_frames` of sound may wait while a seat is being found, and until it has caught up."""
        self.identity = identity
        self.conditions = conditions
        self.seating: Seating | None = seating
        self.card = seating.card if seating else None  # of its last seats
        self.on_closed: Callable[[], None] | None = None  # told once, when the service has it no more
        self.memory = memory
        self.turn_taking: TurnTaking = "semantic"
        self.free_running = False
        self.outbox: asyncio.Queue[Event] = asyncio.Queue()  # bounded by _say
        self.cut = asyncio.Event()  # the session has ended, and the outbox with it
        self.ending: Ending | None = None
        self.left_s: float | None = None  # when its client vanished, to come back perhaps
        self.is_held = False  # another session is about to go on in its place
        self.is_paused = False  # between two seats: no frame sets out
        self.wants_rebuild = False  # its memory was cut or cleared: the seat has to live through it again
        self.wants_adjusting = False  # its conditions have changed: its seats do not know yet
        self.is_interrupted = False  # the reply is silenced until the seat has forgotten what was not heard
        self.frames_in = self.frames_out = self.late_frames = 0
        self.in_flight: deque[Frame] = deque()
        self.returned: list[Frame] = []  # frames that set out in vain, oldest first
        self._frames = frames
        self._max_frames = frames.max_frames
        self._patience_frames = max(frames.max_frames, patience_frames or 0)
        self._is_behind = False
        self._transcripts = transcripts
        self._turns = turns
        self._aligner = aligner
        self._last_probability = 0.0
        self._heard: dict[int, Heard] = {}  # by the number of a frame that is under way
        self._max_waiting = max_waiting
        self._first_reply = first_reply  # replies before it were heard by the client already
        self._played: int | None = None  # acknowledged, by a client that does
        self._sent_end = first_reply
        self._unheard_from: int | None = None  # the memory is to be cut there
        self._marks: deque[Marked] = deque()
        self._is_draining = False
        self._next_frame = memory.end
        self._idle = asyncio.Event()
        self._idle.set()
        self._landing = asyncio.Event()  # of the next frame; a new one each time

    @property
    def session_id(self) -> str:
        """Names the session in logs and to its client."""
        return self.identity.session_id

    @property
    def token(self) -> str:
        """What the client shows to resume. A secret."""
        return self.identity.token

    @property
    def next_frame(self) -> int:
        """The number of the frame that the next sound begins, or goes on with."""
        return self._next_frame

    # What the connection calls.

    def hear(self, pcm: bytes, now_s: float) -> None:
        """Sound from the client, PCM16 at the model's rate. More than may wait ends the session."""
        self._take(lambda: self._frames.push(pcm, now_s))

    def drain(self, now_s: float) -> None:
        """No more sound will come: what has come is answered, then the session ends well."""
        self._take(lambda: self._frames.finish(now_s))
        self._is_draining = True

    def _take(self, push: Callable[[], int]) -> None:
        waits = len(self._frames)
        self._is_behind = self.is_paused or (self._is_behind and 2 * waits > self._max_frames)
        self._frames.max_frames = self._patience_frames if self._is_behind else self._max_frames
        try:
            completed = push()
        except FrameOverflowError as error:
            if self._is_behind:
                self.end(Ending.of(CloseCode.STAGE_LOST, "stage_lost", "no stage took the sound in time"))
            else:
                self.end(Ending.of(CloseCode.POLICY, "too_fast", str(error)))
            return
        self.frames_in += completed
        self._next_frame += completed

    def played(self, frame: int) -> None:
        """The client has played the reply up to (without) this frame; going back is ignored."""
        self._played = max(self._played or 0, min(frame, self._sent_end))

    def interrupt(self) -> None:
        """Stop the reply: what the client has not played is dropped, and forgotten as unheard."""
        for event in self._turns.stop_reply(self.memory.end):
            self._tell(event)
        self._stop_reply()

    def truncate(self, frame: int) -> None:
        """The client heard the reply up to (without) this frame, whatever it was sent: forget the rest.

        Of an older reply nothing is forgotten: what was said since stands on it.
        """
        latest = max((turn.first_frame for turn in self.memory.turns if turn.role == "agent"), default=0)
        if latest <= frame < self._sent_end and self.ending is None:
            self._unheard_from = frame if self._unheard_from is None else min(frame, self._unheard_from)
            self.wants_rebuild = True

    def adjust(self, conditions: Conditions) -> None:
        """Ask for another voice, style or sampling from now on."""
        self.conditions = conditions
        self.wants_adjusting = True

    def _stop_reply(self) -> None:
        """Silence what waits to be sent: its frames go out all the same, so that none is missing."""
        if self.ending is not None or self.is_interrupted:
            return
        self.is_interrupted = self.wants_rebuild = True
        waiting = []
        while not self.outbox.empty():
            waiting.append(self.outbox.get_nowait())
        first = self._first_unheard(waiting)
        self._unheard_from = first if self._unheard_from is None else min(first, self._unheard_from)
        self._say(Interrupted(first))
        for event in waiting:
            if isinstance(event, ReplyFrame):
                event = event._replace(pcm=event.pcm * 0, present=False, is_audible=False, text="")
            self._say(event)

    def _first_unheard(self, waiting: Sequence[Event]) -> int:
        """What the client has not acknowledged, or else what it has not been sent."""
        if self._played is not None:
            return self._played
        return min(
            (event.number for event in waiting if isinstance(event, ReplyFrame)), default=self._sent_end
        )

    def forget(self) -> None:
        """Forget what was said: frames and turns. The session goes on."""
        self.memory.clear()
        self.wants_rebuild = True

    def mark(self, label: str) -> None:
        """Echo the label once all sound heard so far is answered."""
        marked = Marked(label, self._next_frame)
        if self.memory.end >= self._next_frame:
            self._say(marked)
        elif len(self._marks) >= self._max_waiting:
            what = f"{self._max_waiting} markers wait for an answer"
            self.end(Ending.of(CloseCode.POLICY, "too_many_marks", what))
        else:
            self._marks.append(marked)

    # What the service calls.

    @property
    def can_step(self) -> bool:
        """Whether a frame may set out now."""
        return self.ending is None and not self.is_paused and self.seating is not None

    @property
    def holds_frame(self) -> bool:
        """Whether a whole frame waits."""
        return self.ending is None and len(self._frames) > 0

    def next_frame_at(self, now_s: float) -> Frame | None:
        """The frame to step now: the oldest, or silence for a session that runs freely."""
        frame = self._frames.pop()
        if frame is None and self.free_running and not self._is_draining:
            frame = self._frames.silence(now_s)
            self._next_frame += 1
        if frame is not None:
            self.in_flight.append(frame)
            self._idle.clear()
        return frame

    @property
    def listens(self) -> bool:
        """Whether anybody wants to know who speaks when; if not, a session costs less."""
        return self.turn_taking != "none"

    def listen(self, heard: Heard) -> None:
        """Where the probability of speech will be, for the frame that has just set out."""
        self._heard[self.in_flight[-1].number] = heard

    def align(self, margin_s: float, now_s: float) -> None:
        """A frame waited so long for the tick that took it: perhaps the client should be told."""
        shift_ms = self._aligner.observe(margin_s, now_s)
        if shift_ms is not None:
            self._say(Align(shift_ms))

    def answer(self, frame: Frame, answer: Answer, is_late: bool) -> bool:
        """What became of a frame that set out; whether it was answered.

        Those behind one that was lost come to nothing too.
        """
        self._landed(frame)
        probability = self._probability(frame)
        if answer.lost is not None or self.returned:
            self.returned.append(frame)
            return False
        self.frames_out += 1
        self.late_frames += is_late
        self.memory.append(frame.pcm, answer.user_codes, answer.reply)
        self._reply(frame, answer, probability)
        while self._marks and self._marks[0].frame <= self.memory.end:
            self._say(self._marks.popleft())
        return True

    def fail(self, frame: Frame) -> None:
        """A frame set out, and its lane was lost."""
        self._landed(frame)
        self._probability(frame)
        self.returned.append(frame)

    def _landed(self, frame: Frame) -> None:
        assert self.in_flight[0] is frame, f"frame {frame.number} landed out of order"
        self.in_flight.popleft()
        if not self.in_flight:
            self._idle.set()
        self._landing.set()
        self._landing = asyncio.Event()

    def _probability(self, frame: Frame) -> float:
        """That the user spoke in a frame; what was last known when the listener is behind, or has failed."""
        heard = self._heard.pop(frame.number, None)
        if heard is not None and heard.done() and not heard.cancelled() and heard.exception() is None:
            self._last_probability = heard.result().get(self.session_id, 0.0)
        return self._last_probability

    def has_left(self, now_s: float, grace_s: float) -> bool:
        """Whether its client vanished, and will not come back in time."""
        return self.left_s is not None and (self.ending is not None or now_s - self.left_s > grace_s)

    def reopens(self) -> bool:
        """Take a good ending back when the client was gone before it was sent all; it may come again."""
        if self.ending is None or self.ending.close_code is not CloseCode.DONE or self.cut.is_set():
            return False
        unsent = [self.outbox.get_nowait() for _ in range(self.outbox.qsize())]
        if any(isinstance(event, ReplyFrame) for event in unsent):
            self.ending = None
        return self.ending is None

    @property
    def needs_rebuild(self) -> bool:
        """Whether its seat is to live through its memory again now.

        A model that was interrupted goes on when it does not see itself be silent: some silence first.
        """
        if self._unheard_from is None:
            return self.wants_rebuild
        return self.memory.end >= self._unheard_from + HUSH_FRAMES

    @property
    def needs_attention(self) -> bool:
        """Whether it cannot go on as it is."""
        return bool(self.returned) or self.needs_rebuild

    @property
    def waiting(self) -> int:
        """Frames that were heard and not answered."""
        return len(self._frames) + len(self.in_flight) + len(self.returned)

    async def idle(self) -> None:
        """Return when no frame is under way."""
        await self._idle.wait()

    async def landing(self) -> None:
        """Return when the next frame has come back: it is a tick until another sets out."""
        await self._landing.wait()

    def sit(self, seating: Seating) -> None:
        """Go on from these seats; what set out in vain waits again, in front."""
        self.seating, self.card = seating, seating.card
        self._frames.put_back(self.returned)
        self.returned = []
        self.is_paused = False

    def cut_unheard(self, unheard: np.ndarray) -> None:
        """Make the memory hold what the user heard: `unheard` `[2 + K]` stands for the rest."""
        if self._unheard_from is not None:
            self.memory.cut(self._unheard_from, unheard)
            self._unheard_from = None

    def rebuilt(self) -> None:
        """The seat lives in what the memory holds: the reply may sound again."""
        self.wants_rebuild = self.is_interrupted = False

    def _reply(self, frame: Frame, answer: Answer, probability: float) -> None:
        present = bool(answer.reply[FIRST_CODE] >= 0) and not self.is_interrupted
        text = self._transcripts.own.feed(int(answer.reply[OUR_TEXT]))
        understood = self._transcripts.user.feed(int(answer.reply[USER_TEXT]))
        if self.listens:
            self._turns.turn_taking = self.turn_taking
            sound = answer.pcm if present else None
            for event in self._turns.observe(frame.number, probability, frame.pcm, sound):
                self._tell(event)
            present = present and not self.is_interrupted
        if frame.number < self._first_reply:
            return  # the client has it from before it came back
        if self.is_interrupted:
            text = ""
        if text:
            self.memory.said(frame.number, text)
        if understood:
            self.memory.said(frame.number, understood, "user")
        audible = present and (self._turns.reply_is_audible or not self.listens)
        pcm = answer.pcm if present else answer.pcm * 0
        self._say(ReplyFrame(frame.number, pcm, present, audible, text, frame.arrived_s))
        if understood:
            self._say(UserText(frame.number, understood))
        self._sent_end = frame.number + 1

    def _tell(self, event: TurnEvent) -> None:
        """A turn began or ended: the memory and the client learn of it."""
        if isinstance(event, Interrupt):
            self._stop_reply()
            return
        role = "user" if isinstance(event, UserSpeech) else "agent"
        if event.started:
            self.memory.began(role, event.frame)
        else:
            self.memory.ended(role, event.frame)
        self._say(event)

    def report(self, tick_p50_ms: float, tick_p99_ms: float) -> None:
        """Tell the client how it goes."""
        self._say(
            Report(
                self.frames_in,
                self.frames_out,
                self.late_frames,
                tick_p50_ms,
                tick_p99_ms,
                self._aligner.margin_low_ms,
            )
        )

    @property
    def is_drained(self) -> bool:
        """Whether everything the client sent before its end has been answered."""
        return self._is_draining and not (self._frames or self.in_flight or self.returned)

    def end_well(self) -> None:
        """End a drained session."""
        self.end(Ending(CloseCode.DONE))

    def end(self, ending: Ending) -> None:
        """End the session behind what waits in the outbox; only the first call counts."""
        if self.ending is None:
            self.ending = ending
            self.outbox.put_nowait(ending)

    def cut_off(self, ending: Ending) -> None:
        """End the session without what waits in the outbox: its reader is slow, or gone."""
        if self.ending is None:
            self.ending = ending
        self.cut.set()

    def _say(self, event: Event) -> None:
        if self.ending is not None:
            return
        if self.outbox.qsize() >= self._max_waiting:
            what = f"{self._max_waiting} messages wait for a client that does not read them"
            self.cut_off(Ending.of(CloseCode.POLICY, "slow_reader", what))
            return
        self.outbox.put_nowait(event)
