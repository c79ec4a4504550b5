"""Many paced sessions from one process: what load, faults and soak are measured with."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from paluku.client.talker import NAME_FRAMES, LoadConfig, Sound, Talker
from paluku.client.tally import Tally
from paluku.units import MS_PER_S

# Between the beginnings of two sessions: a crowd does not come in one instant.
STAGGER_S = 0.05


def named_sound(frame_samples: int) -> Sound:
    """Frames whose first two samples are their session's number and their own, over stand-in stages."""
    tail = bytes(2 * (frame_samples - 2))

    def sound(session: int, frame: int) -> bytes:
        return np.array([session, frame % NAME_FRAMES], "<i2").tobytes() + tail

    return sound


def spoken_sound(wave: np.ndarray, frame_samples: int) -> Sound:
    """Frames of int16 `[S]`, again and again; each session begins at another place of it."""
    whole = len(wave) // frame_samples
    frames = [row.astype("<i2").tobytes() for row in wave[: whole * frame_samples].reshape(whole, -1)]
    assert frames, f"{len(wave)} samples are less than a frame of {frame_samples}"

    def sound(session: int, frame: int) -> bytes:
        return frames[(frame + 37 * session) % len(frames)]

    return sound


# How soon a place in a full house is asked for again.
RETRY_S = 1.0


class Crowd:
    """Sessions that speak at once. Every one that was ever seated is numbered from 1."""

    def __init__(self, url: str, config: LoadConfig, sound: Sound) -> None:
        self.tally = Tally()
        self.talkers: list[Talker] = []
        self._url, self._config, self._sound = url, config, sound
        self._random = random.Random(config.seed)  # noqa: S311 (phases, no secrets)
        self._numbers = 0

    async def join(self) -> Talker | None:
        """One session more, at any phase to the server's tick; None when it is refused or fails."""
        self._numbers += 1
        talker = Talker(self._numbers, self._url, self._config, self._sound, self.tally)
        phase_s = self._random.random() * self._config.chunk_ms / MS_PER_S
        if not await talker.begin(time.monotonic() + phase_s):
            return None
        self.talkers.append(talker)
        return talker

    async def gather(self, sessions: int) -> int:
        """So many sessions more, one after another; gives how many were seated."""
        asked: list[asyncio.Task[Talker | None]] = []
        for _ in range(sessions):
            asked.append(asyncio.create_task(self.join()))
            await asyncio.sleep(STAGGER_S)
        return sum(talker is not None for talker in await asyncio.gather(*asked))

    async def measure(self, seconds: float) -> None:
        """Drop what was measured so far, and let them talk."""
        self.tally.measure()
        await asyncio.sleep(seconds)

    async def come_and_go(self, seconds: float, stay_s: tuple[float, float]) -> None:
        """For so long: whoever has stayed for a time drawn from `stay_s` ends, and another comes."""
        until_s = time.monotonic() + seconds

        async def chair(talker: Talker) -> None:
            while True:
                left_s = until_s - time.monotonic()
                stay = self._random.uniform(*stay_s)
                await asyncio.sleep(max(0.0, min(stay, left_s)))
                if left_s <= stay:
                    return
                await self.part(talker)
                while (another := await self.join()) is None:  # refused: somebody else was quicker
                    if time.monotonic() > until_s:
                        return
                    await asyncio.sleep(RETRY_S)
                talker = another

        await asyncio.gather(*[chair(talker) for talker in list(self.talkers)])

    async def part(self, talker: Talker) -> None:
        """One session ends well."""
        self.talkers.remove(talker)
        await talker.finish()

    def mark(self) -> None:
        """Look for the longest silence of each session from here on."""
        for talker in self.talkers:
            talker.mark()

    def gaps_s(self) -> list[float]:
        """Each live session's longest silence since `mark`."""
        now_s = time.monotonic()
        return [talker.gap_s(now_s) for talker in self.talkers if not talker.is_over]

    @property
    def alive(self) -> int:
        """Sessions that are not over."""
        return sum(not talker.is_over for talker in self.talkers)

    async def finish(self) -> None:
        """All sessions end well."""
        await asyncio.gather(*[talker.finish() for talker in self.talkers])

    def leave(self) -> None:
        """All sessions go without a word."""
        for talker in self.talkers:
            talker.leave()


@asynccontextmanager
async def crowd(url: str, config: LoadConfig, sound: Sound) -> AsyncIterator[Crowd]:
    """Sessions at `url` for the length of the block; whoever is left then goes without a word."""
    people = Crowd(url, config, sound)
    try:
        yield people
    finally:
        people.leave()
