import asyncio
from typing import Any

import numpy as np
import pytest

from paluku.errors import ServiceError
from paluku.serving.ports import Pushed, Snapshots
from paluku.serving.snapshots import HandleSnapshots, MemoryConfig, MemoryReplica
from paluku.streaming.memory import SessionMemory, Update
from tests.fakes.clock import FakeClock

GRACE_S = 30.0
MAX_FRAMES = 12


class Direct:
    """A Serve handle whose replica is here."""

    def __init__(self, replica: Any, method: str = "") -> None:
        self._replica, self._method = replica, method

    def options(self, *, method_name: str = "", _by_reference: bool = True) -> "Direct":
        return Direct(self._replica, method_name)

    async def remote(self, *arguments: object) -> Any:
        return await getattr(self._replica, self._method)(*arguments)


class House:
    def __init__(self, max_sessions: int = 100) -> None:
        self.clock = FakeClock()
        config = MemoryConfig(
            max_frames=MAX_FRAMES, max_pcm_frames=MAX_FRAMES, grace_s=GRACE_S, max_sessions=max_sessions
        )
        self.replica = MemoryReplica(config, self.clock)
        self.snapshots = HandleSnapshots(Direct(self.replica), 1.0)  # type: ignore[arg-type]

    def dies(self) -> None:
        """The Memory replica is replaced by an empty one."""
        self.__init__()

    def push(self, owner: str, **memories: SessionMemory) -> Pushed:
        updates = {token: memory.update({"owner": owner}) for token, memory in memories.items()}
        return asyncio.run(self.snapshots.push(owner, updates))

    def claim(self, owner: str, token: str) -> Update | None:
        return asyncio.run(self.snapshots.claim(owner, token))

    def forget(self, *tokens: str) -> None:
        asyncio.run(self.snapshots.forget(tokens))


def memory(frames: int) -> SessionMemory:
    session = SessionMemory(MAX_FRAMES, MAX_FRAMES)
    live(session, frames)
    return session


def live(session: SessionMemory, frames: int) -> None:
    """Frames that say their number."""
    for frame in range(session.end, session.end + frames):
        row = np.full(3, frame, np.int16)
        session.append(np.full(4, frame, np.int16), row[1:], row)


def rows(update: Update | None) -> tuple[int, list[int], list[int]]:
    """Start, the reply rows' first column, the sounds' first sample."""
    assert update is not None
    history = update.history
    return history.start, history.reply[:, 0].tolist(), history.user_pcm[:, 0].tolist()


def test_it_implements_the_port() -> None:
    assert isinstance(House().snapshots, Snapshots)


def test_what_was_pushed_piece_by_piece_is_claimed_whole() -> None:
    house, session = House(), memory(3)
    for frames in (2, 0, 1, 5, 9):
        assert house.push("a", t=session) == Pushed()
        live(session, frames)
    session.cut(session.end - 2, np.full(3, -1, np.int16))
    house.push("a", t=session)
    claimed = house.claim("b", "t")
    assert rows(claimed) == rows(Update(session.history(), {}))
    assert claimed is not None
    assert claimed.facts["owner"] == "a"
    other = SessionMemory(MAX_FRAMES, MAX_FRAMES)
    other.apply(claimed)
    assert other.end == session.end == 20


def test_a_claimed_session_is_its_former_owners_no_more() -> None:
    house, mine, kept = House(), memory(3), memory(3)
    house.push("a", mine=mine, kept=kept)
    taken = house.claim("b", "mine")
    assert taken is not None
    live(mine, 1)
    live(kept, 1)
    assert house.push("a", mine=mine, kept=kept) == Pushed(claimed=("mine",))
    assert rows(house.claim("b", "mine"))[1] == [0, 1, 2]  # what the former owner pushed is not in it
    assert rows(house.claim("c", "kept"))[1] == [0, 1, 2, 3]
    assert not house.push("b", mine=mine).claimed
    assert house.push("b", kept=kept) == Pushed(claimed=("kept",))


def test_an_unknown_token_gives_nothing() -> None:
    assert House().claim("a", "unknown") is None


def test_a_session_expires_after_its_last_push() -> None:
    house, session = House(), memory(1)
    house.push("a", t=session)
    house.clock.advance(GRACE_S)
    house.push("a", t=session)  # nothing new, and yet it lives
    house.clock.advance(GRACE_S)
    assert asyncio.run(house.replica.count()) == 1
    house.clock.advance(0.1)
    assert house.claim("b", "t") is None
    assert asyncio.run(house.replica.count()) == 0


def test_one_that_ended_well_cannot_be_claimed_or_revived_by_a_late_push() -> None:
    house, session = House(), memory(2)
    house.push("a", t=session)
    house.forget("t", "unknown")
    assert house.claim("b", "t") is None
    assert house.push("a", t=session) == Pushed(claimed=("t",))
    assert house.claim("b", "t") is None
    house.clock.advance(GRACE_S + 0.1)
    assert asyncio.run(house.replica.push("a", {})) == ([], [])
    assert not house.replica._kept


def test_the_number_is_bounded_and_the_one_silent_longest_goes() -> None:
    house = House(max_sessions=2)
    first, second = memory(1), memory(2)
    house.push("a", first=first)
    house.push("a", second=second)
    house.push("a", first=first)
    house.push("a", third=memory(3))
    assert house.claim("b", "second") is None
    assert rows(house.claim("b", "first"))[1] == [0]
    assert rows(house.claim("b", "third"))[1] == [0, 1, 2]


def test_after_its_death_a_full_push_closes_the_gap_it_named() -> None:
    house, long, short = House(), memory(20), memory(0)
    assert house.push("a", long=long, short=short) == Pushed()
    house.dies()
    live(long, 2)
    live(short, 2)
    assert house.push("a", long=long, short=short) == Pushed(gaps=("long",))
    assert rows(house.claim("a", "long"))[1] == [20, 21]
    whole = Update(long.history(), long.update({}).facts)
    assert asyncio.run(house.snapshots.push("a", {"long": whole})) == Pushed()
    assert rows(house.claim("a", "long")) == rows(whole)


def test_a_lost_push_leaves_a_gap_that_is_named() -> None:
    house, session = House(), memory(3)
    house.push("a", t=session)
    live(session, 2)
    session.update({})  # pushed, and never arrived
    live(session, 2)
    assert house.push("a", t=session) == Pushed(gaps=("t",))


def test_memory_that_does_not_answer_is_said_in_time() -> None:
    class Silent:
        async def claim(self, owner: str, token: str) -> None:
            await asyncio.Event().wait()

        async def push(self, owner: str, updates: object) -> None:
            raise ConnectionError

    snapshots = HandleSnapshots(Direct(Silent()), 0.01)  # type: ignore[arg-type]
    with pytest.raises(ServiceError, match="Memory deployment did not answer"):
        asyncio.run(snapshots.claim("a", "t"))
    with pytest.raises(ServiceError, match="Memory deployment did not answer"):
        asyncio.run(snapshots.push("a", {}))
