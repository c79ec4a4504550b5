"""What a session remembers: its last frames as codes, its last turns as codes and text.

The frames are what a seat is primed from when its replica is gone or the session moves. The memory
outlives its ingress elsewhere, as `Update`s: what is new since the last one.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from paluku.config import Config
from paluku.streaming.ports import USER_TEXT, History

MAX_TURNS = 10

Role = Literal["user", "agent"]


class Turn(Config):
    """One side's stretch of speech, in frames of the session; what it said in pauses of the other is one."""

    role: Role
    first_frame: int
    end_frame: int | None = None  # the frame after the last; None while it lasts
    text: str = ""  # what was said, as the model has it; of the user what it understood

    def ended_by(self, end_frame: int) -> "Turn":
        """The same turn, over by a frame."""
        if self.end_frame is not None and self.end_frame <= end_frame:
            return self
        return self.model_copy(update={"end_frame": end_frame})


class Update(NamedTuple):
    """Frames from `history.start` on, which replace those another memory has from there, and the rest."""

    history: History
    facts: Mapping[str, Any]  # plain JSON values: "turns", "memory" (its own), and what the session adds


class _Words:
    """One side's transcript, in the pieces that came with the frames kept."""

    def __init__(self) -> None:
        self.pieces: deque[tuple[int, str]] = deque()
        self.untold = 0  # so many of the last pieces came before the turn that says them

    def take_untold(self) -> list[str]:
        """Those that wait for their turn, which has come."""
        waiting = [text for _, text in self.pieces][len(self.pieces) - self.untold :]
        self.untold = 0
        return waiting

    def drop_before(self, frame: int) -> None:
        """Forget the pieces of older frames."""
        while self.pieces and self.pieces[0][0] < frame:
            self.pieces.popleft()
        self.untold = min(self.untold, len(self.pieces))


class SessionMemory:
    """The last `max_frames` frames and ten turns of one session."""

    def __init__(self, max_frames: int, max_pcm_frames: int) -> None:
        self._frames: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=max_frames)  # [K], [2 + K]
        self._pcm: deque[np.ndarray] = deque(maxlen=min(max_pcm_frames, max_frames))  # [S]
        self._end = 0
        self._changed_from = 0
        self._widths = (0, 0, 0)  # S, K, 2 + K, once a frame was seen
        self._words: dict[Role, _Words] = {"user": _Words(), "agent": _Words()}
        self.turns: deque[Turn] = deque(maxlen=MAX_TURNS)

    @property
    def end(self) -> int:
        """The number of the frame that comes next."""
        return self._end

    @property
    def start(self) -> int:
        """The number of the oldest frame kept."""
        return self._end - len(self._frames)

    def append(self, pcm: np.ndarray, user_codes: np.ndarray, reply: np.ndarray) -> None:
        """One frame more: int16 `[S]`, `[K]`, `[2 + K]`."""
        self._widths = (len(pcm), len(user_codes), len(reply))
        self._frames.append((user_codes, reply))
        self._pcm.append(pcm)
        self._end += 1
        for words in self._words.values():
            words.drop_before(self.start)

    def history(self, end: int | None = None) -> History:
        """What to prime a seat from, up to (without) frame `end`.

        Sound is kept for the last frames only, so a shorter history has less of it. One without frames
        is `[0, S]`, `[0, K]`, `[0, 2 + K]`, or `[0, 0]` each before the first frame.

        Raises:
            ValueError: when `end` is not among the frames kept.
        """
        return self._slice(self.start, self._end if end is None else end)

    def since(self, start: int) -> History:
        """The frames from `start` on, as many as are kept."""
        return self._slice(min(max(start, self.start), self._end), self._end)

    def began(self, role: Role, frame: int) -> None:
        """One side speaks from a frame on; behind its own last turn it goes on with that one."""
        place = len(self.turns)
        while place and self.turns[place - 1].first_frame > frame:  # told late: it was not sure to be a turn
            place -= 1
        if place and self.turns[place - 1].role == role:
            self._change(place - 1, end_frame=None)
        else:
            turns = list(self.turns)
            turns.insert(place, Turn(role=role, first_frame=frame))
            self.turns = deque(turns, maxlen=MAX_TURNS)
        for text in self._words[role].take_untold():
            self._tell(role, text)

    def ended(self, role: Role, frame: int) -> None:
        """One side had stopped by a frame; nothing happens when it was not speaking."""
        for index, turn in enumerate(self.turns):
            if turn.role == role and turn.end_frame is None:
                self._change(index, end_frame=max(frame, turn.first_frame))

    def said(self, frame: int, text: str, role: Role = "agent") -> None:
        """The piece of one side's transcript that came with a frame.

        Text may come before its sound: without a turn under way it is the next turn's.
        """
        words = self._words[role]
        words.pieces.append((frame, text))
        if any(turn.role == role and turn.end_frame is None for turn in self.turns):
            self._tell(role, text)
        else:
            words.untold += 1

    def cut(self, first_frame: int, unheard: np.ndarray) -> None:
        """The user did not hear the reply from `first_frame` on: those rows become `unheard` `[2 + K]`.

        The agent's turns and their text end there too; what the user was understood to say stays.
        """
        for index in range(max(0, first_frame - self.start), len(self._frames)):
            user_codes, reply = self._frames[index]
            row = unheard.copy()
            row[USER_TEXT] = reply[USER_TEXT]
            self._frames[index] = (user_codes, row)
        self._changed_from = min(self._changed_from, max(first_frame, self.start))
        self._untell_from(first_frame, "agent")
        heard = [turn for turn in self.turns if turn.role == "user" or turn.first_frame < first_frame]
        cut = [turn if turn.role == "user" else turn.ended_by(first_frame) for turn in heard]
        self.turns = deque(cut, maxlen=MAX_TURNS)

    def rewind(self, end: int) -> None:
        """Go back to frame `end`: what was lived since is going to be lived again.

        Raises:
            ValueError: when `end` is not among the frames kept.
        """
        if not self.start <= end <= self._end:
            raise ValueError(f"frame {end} was asked for; {self.start} to {self._end} are kept")
        self._untell_from(end, "agent")
        self._untell_from(end, "user")
        turns = [turn for turn in self.turns if turn.first_frame < end]
        self.turns = deque((turn.ended_by(end) for turn in turns), maxlen=MAX_TURNS)
        self._take_back(self._end - end)
        self._changed_from = min(self._changed_from, end)

    def clear(self) -> None:
        """Forget every frame and turn; the count goes on."""
        for kept in (self._frames, self._pcm, self.turns):
            kept.clear()
        self._words = {role: _Words() for role in self._words}
        self._changed_from = self._end

    def update(self, facts: Mapping[str, Any]) -> Update:
        """What is new since the last call."""
        history = self.since(self._changed_from)
        self._changed_from = self._end
        return Update(history, self._facts(facts))

    def retry(self, update: Update) -> None:
        """An update did not get through: the next one holds its frames too."""
        self._changed_from = min(self._changed_from, update.history.start)

    def snapshot(self, facts: Mapping[str, Any]) -> Update:
        """All of it, for a memory that has nothing yet; `update` goes on as if it had not been asked."""
        return Update(self.history(), self._facts(facts))

    def apply(self, update: Update) -> None:
        """Take over what another memory's `update` gave; frames that do not connect replace everything."""
        history, facts = update.history, update.facts
        if not self.start <= history.start <= self._end:
            self._frames.clear()
            self._pcm.clear()
            self._end = history.start
        self._take_back(self._end - history.start)
        self._extend(history)
        self._forget_before(facts["memory"]["start"], facts["memory"]["sound_start"])
        for role, words in self._words.items():
            words.pieces = deque((frame, text) for frame, text in facts["memory"]["words"][role]["pieces"])
            words.untold = facts["memory"]["words"][role]["untold"]
        self.turns = deque((Turn(**turn) for turn in facts["turns"]), maxlen=MAX_TURNS)
        self._changed_from = min(self._changed_from, history.start)

    def _facts(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        own = {
            "start": self.start,
            "sound_start": self._sound_start,
            "words": {
                role: {"pieces": [list(piece) for piece in words.pieces], "untold": words.untold}
                for role, words in self._words.items()
            },
        }
        return {**facts, "turns": [turn.model_dump() for turn in self.turns], "memory": own}

    def _take_back(self, count: int) -> None:
        for _ in range(count):
            self._frames.pop()
        for _ in range(min(count, len(self._pcm))):
            self._pcm.pop()
        self._end -= count

    def _extend(self, history: History) -> None:
        if history.user_codes.shape[1]:
            parts = (history.user_pcm, history.user_codes, history.reply)
            self._widths = (parts[0].shape[1] or self._widths[0], parts[1].shape[1], parts[2].shape[1])
        if len(history.user_pcm) < len(history.reply):
            self._pcm.clear()  # what is kept does not reach the sound that comes: it would leave a hole
        self._frames.extend(zip(history.user_codes, history.reply, strict=True))
        self._pcm.extend(history.user_pcm)
        self._end = history.end

    @property
    def _sound_start(self) -> int:
        return self._end - len(self._pcm)

    def _forget_before(self, start: int, sound_start: int) -> None:
        """The other memory has cleared itself since, has gone back, or keeps less."""
        while self._frames and self.start < start:
            self._frames.popleft()
        while self._pcm and self._sound_start < sound_start:
            self._pcm.popleft()

    def _slice(self, start: int, end: int) -> History:
        if not self.start <= start <= end <= self._end:
            raise ValueError(f"frames {start} to {end} were asked for; {self.start} to {self._end} are kept")
        rows = list(self._frames)[start - self.start : end - self.start]
        pcm = list(self._pcm)[max(start - self._sound_start, 0) : max(end - self._sound_start, 0)]
        samples, codes, reply = self._widths
        return History(
            start,
            np.array(pcm, np.int16).reshape(len(pcm), samples),
            np.array([row for row, _ in rows], np.int16).reshape(len(rows), codes),
            np.array([row for _, row in rows], np.int16).reshape(len(rows), reply),
        )

    def _change(self, index: int, **values: Any) -> None:
        self.turns[index] = self.turns[index].model_copy(update=values)

    def _tell(self, role: Role, text: str) -> None:
        for index in reversed(range(len(self.turns))):
            if self.turns[index].role == role:
                self._change(index, text=self.turns[index].text + text)
                return

    def _untell_from(self, frame: int, role: Role) -> None:
        words = self._words[role]
        while words.pieces and words.pieces[-1][0] >= frame:
            self._untell(words.pieces.pop()[1], role)

    def _untell(self, text: str, role: Role) -> None:
        """Take a piece, the last, back out of the turn that has it; an old turn may be forgotten by now."""
        words = self._words[role]
        if words.untold:
            words.untold -= 1
            return
        for index in reversed(range(len(self.turns))):
            turn = self.turns[index]
            if turn.role == role and turn.text:
                self._change(index, text=turn.text.removesuffix(text))
                return
