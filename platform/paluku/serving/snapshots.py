"""Where the memory of sessions outlives the ingress that holds them."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field
from ray.serve.handle import DeploymentHandle

from paluku.config import Config
from paluku.errors import ServiceError
from paluku.serving.calls import alone
from paluku.serving.ports import Pushed
from paluku.streaming.clock import Clock, MonotonicClock
from paluku.streaming.memory import SessionMemory, Update
from paluku.streaming.ports import History

# Start, user PCM, user codes, reply and facts: an `Update` as plain values.
Wire = tuple[int, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class MemoryConfig(Config):
    """What the Memory deployment keeps."""

    # As ServingConfig's: frames of a session, and how long a client may stay away.
    max_frames: int = Field(ge=1)
    grace_s: float = Field(ge=0)
    # Sound is nearly all of a session's 350 kB: what an encoder's state reaches back to, and what a client
    # may be behind when it resumes.
    max_pcm_frames: int = Field(default=250, ge=1)
    # Whatever is pushed, memory is bounded. The session silent longest goes first.
    max_sessions: int = Field(default=5_000, ge=1)


class _Kept:
    """One session."""

    def __init__(self, owner: str, memory: SessionMemory | None, pushed_s: float) -> None:
        self.owner = owner
        self.memory = memory  # none: the session has ended, and whoever still pushes it is behind
        self.facts: Mapping[str, Any] = {}
        self.pushed_s = pushed_s


class MemoryReplica:
    """A deployment of one replica: sessions' memories by token, each with the ingress that owns it.

    It calls nobody and knows no model. What it holds is lost with it; its answers then make the
    ingresses push all they have.
    """

    def __init__(self, config: MemoryConfig, clock: Clock | None = None) -> None:
        self._config = config
        self._clock = clock or MonotonicClock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # the one pushed longest ago first

    async def push(self, owner: str, updates: dict[str, Wire]) -> tuple[list[str], list[str]]:
        """Keep what is new; gives the tokens that are not `owner`'s (any more), and those with a gap.

        A gap: the copy begins later than the original, because this replica is new or an update was
        lost. One update with all of the memory closes it.
        """
        self._expire()
        claimed, gaps = [], []
        for token, update in updates.items():
            kept = self._kept.setdefault(token, _Kept(owner, self._memory(), 0.0))
            if kept.owner != owner or kept.memory is None:
                claimed.append(token)
                continue
            kept.memory.apply(_from_wire(update))
            kept.facts = update[-1]
            if kept.memory.start > kept.facts["memory"]["start"]:
                gaps.append(token)
            self._touch(token)
        while len(self._kept) > self._config.max_sessions:
            self._kept.popitem(last=False)
        return claimed, gaps

    async def claim(self, owner: str, token: str) -> Wire | None:
        """All of a session, which is `owner`'s from now on; None when it is unknown, expired or ended."""
        self._expire()
        kept = self._kept.get(token)
        if kept is None or kept.memory is None:
            return None
        kept.owner = owner
        self._touch(token)
        return to_wire(Update(kept.memory.history(), kept.facts))

    async def forget(self, tokens: list[str]) -> None:
        """They have ended well. That they have is remembered for a while: a push may be under way."""
        for token in tokens:
            self._kept[token] = _Kept("", None, 0.0)
            self._touch(token)

    async def count(self) -> int:
        """How many sessions could be claimed now."""
        self._expire()
        return sum(kept.memory is not None for kept in self._kept.values())

    def _memory(self) -> SessionMemory:
        return SessionMemory(self._config.max_frames, self._config.max_pcm_frames)

    def _touch(self, token: str) -> None:
        self._kept[token].pushed_s = self._clock.now()
        self._kept.move_to_end(token)

    def _expire(self) -> None:
        while self._kept:
            token, kept = next(iter(self._kept.items()))
            if self._clock.now() - kept.pushed_s <= self._config.grace_s:
                return
            del self._kept[token]


class HandleSnapshots:
    """`serving.ports.Snapshots` over a Serve handle of the Memory deployment."""

    def __init__(self, handle: DeploymentHandle[Any], timeout_s: float) -> None:
        by_value = handle.options(_by_reference=False)
        self._push = by_value.options(method_name="push")
        self._claim = by_value.options(method_name="claim")
        self._forget = by_value.options(method_name="forget")
        self._timeout_s = timeout_s

    async def push(self, owner: str, updates: Mapping[str, Update]) -> Pushed:
        """Keep what is new of some sessions, by token.

        Raises:
            ServiceError: when the Memory deployment does not answer.
        """
        wire = {token: to_wire(update) for token, update in updates.items()}
        claimed, gaps = await self._call(lambda: self._push.remote(owner, wire))
        return Pushed(tuple(claimed), tuple(gaps))

    async def claim(self, owner: str, token: str) -> Update | None:
        """All of a session, which is the claimer's from now on; None when it is not known (any more).

        Raises:
            ServiceError: when the Memory deployment does not answer.
        """
        wire = await self._call(lambda: self._claim.remote(owner, token))
        return None if wire is None else _from_wire(wire)

    async def forget(self, tokens: Sequence[str]) -> None:
        """They have ended well.

        Raises:
            ServiceError: when the Memory deployment does not answer.
        """
        await self._call(lambda: self._forget.remote(list(tokens)))

    async def _call(self, send: Callable[[], Any]) -> Any:
        call = alone(_sent(send))  # see HandleReplica
        try:
            return await asyncio.wait_for(call, self._timeout_s)
        # Another process behind a port; with none running, Serve would wait until there is one.
        except Exception as error:
            raise ServiceError(f"the Memory deployment did not answer ({type(error).__name__})") from error


async def _sent(send: Callable[[], Any]) -> Any:
    return await send()


def to_wire(update: Update) -> Wire:
    """An `Update` as plain values."""
    history = update.history
    return history.start, history.user_pcm, history.user_codes, history.reply, dict(update.facts)


def _from_wire(wire: Wire) -> Update:
    start, user_pcm, user_codes, reply, facts = wire
    return Update(History(start, user_pcm, user_codes, reply), facts)
