"""One stage in a Serve replica: leased seats of one or more bundles. Only here is a model loaded.

A replica holds a generation per bundle: its model, its seats, their leases. A reload loads the new
bundle beside the old; new sessions are opened on the newest, and an older one goes with its last seat.
torch is imported only inside, so that whoever deploys the class needs none.
"""

import asyncio
import gc
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from paluku.config import AbsolutePath, Config, resolve
from paluku.errors import CheckpointError, ServiceError, one_line
from paluku.log import logger, serves_as
from paluku.serving.machine import MachineWatch
from paluku.serving.ports import LeaseGoneError, Pressure, RowStatus, StageCard, StageStatus
from paluku.streaming.clock import Clock, MonotonicClock
from paluku.streaming.leases import LeaseTable, Refusal
from paluku.streaming.metrics import TickMetrics
from paluku.streaming.ports import FIRST_CODE, Batch, Conditions, History, Stage

if TYPE_CHECKING:
    from paluku.codec.port import Codec
    from paluku.tokens.text import TextTokenizer

log = logger(__name__)

StageName = Literal["encode", "converse", "decode", "fused"]

# What autoscaling is told covers so many seconds: some rounds of every ingress's once-a-second status.
PRESSURE_S = 5.0
# Turns of the event loop between two slices of priming. A call takes several from its message to our
# method: with one turn a step that arrives would wait for as many slices. An idle turn costs some 20 us.
TURNS_PER_SLICE = 10

# How long an older bundle that nobody sits on is kept: sessions are opened on what all stages hold, and
# the other stages may take so much longer to load the newer.
KEPT_S = 30.0

WARM_UP_STEPS = 3
_DONE = object()


class ReplicaConfig(Config):
    """Where the model is, and how much of a machine it gets."""

    bundle: str = ""  # as `Reload.bundle`: what is served when Serve's user_config names none
    tracking_uri: str
    cache: AbsolutePath  # where bundles from the registry are kept
    num_seats: int
    torch_threads: int
    # Converse by torch.compile, on a CPU: a fifth to a third off its steps, for one to two minutes of
    # compiling at each start (less when its cache on disk is kept). A GPU has CUDA graphs without asking.
    compiled: bool = False
    guided: bool = False  # sessions may ask for guidance; Converse then costs twice as much
    lease_s: float = 5.0


class Reload(Config):
    """Serve's `user_config`: what to serve from now on."""

    bundle: str  # a bundle's folder, models:/NAME@ALIAS or models:/NAME/VERSION
    revision: str = ""  # any other text makes Serve ask again, for an alias that points elsewhere now


class Generation(NamedTuple):
    """A bundle's stage, and who sits there."""

    stage: Stage
    card: StageCard
    leases: LeaseTable
    width_out: int  # of a row of what a step gives


class _Told(NamedTuple):
    """What an ingress said of its own state, and when."""

    at_s: float
    pressure: Pressure


class StageReplica:
    """A deployment around the stage port: `serving.ports.Replica`, over what Serve carries well.

    A step never awaits: it runs to its end on the event loop. Priming goes slice by slice in between,
    and a bundle is loaded in a thread.
    """

    def __init__(self, name: StageName, config: ReplicaConfig, clock: Clock | None = None) -> None:
        import torch

        torch.set_num_threads(config.torch_threads)
        serves_as(stage=name)
        self._reloading: asyncio.Task[None] | None = None
        self._name: StageName = name
        self._config, self._clock = config, clock or MonotonicClock()
        self._generations: dict[str, Generation] = {}  # by the bundle's digest, newest last
        self._superseded_s: dict[str, float] = {}  # since when an older one is not the newest
        self._told: deque[_Told] = deque()
        self._metrics = TickMetrics(self._clock)
        self._machine = MachineWatch(config.cache, self._clock)
        self._priming, self._loading = asyncio.Lock(), asyncio.Lock()
        self._broken = ""

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve's hook: make a bundle the newest, in a thread; steps go on meanwhile.

        The first is waited for. While a later one loads, this has returned: Serve takes a replica that
        reconfigures out of its running ones, and stops one whose `reconfigure` raises, with its sessions.
        What cannot be loaded is logged, and the replica serves on as before.

        Raises:
            ConfigError: when the values of the first do not fit `Reload`.
            CheckpointError: when its bundle is missing or damaged, or its parts do not fit.
            ServiceError: when the registry is not there.
        """
        if not self._generations:
            await self.load(resolve(Reload, user_config, "user_config").bundle)
            gc.collect()
            gc.freeze()  # else a full collection walks through torch and Ray, for longer than a tick
            return
        self._reloading = asyncio.create_task(self._reload(user_config))

    async def reloaded(self) -> None:
        """Wait until what `reconfigure` began is done."""
        if self._reloading is not None:
            await self._reloading

    async def _reload(self, user_config: dict[str, Any]) -> None:
        try:
            await self.load(resolve(Reload, user_config, "user_config").bundle)
        # Whatever is wrong with the new bundle (a registry that is gone, a damaged file, a library's own
        # error), the sessions on the old one must not pay for it.
        except Exception as error:  # noqa: BLE001 (said above)
            log.error("%s goes on with its old bundle: %s", self._name, one_line(error))  # noqa: TRY400

    async def load(self, bundle: str) -> None:
        """Make a bundle the newest, loaded unless it is here; raises as `reconfigure`."""
        async with self._loading:
            folder, digest = await asyncio.to_thread(self._find, bundle)
            held = self._generations.pop(digest, None)
            self._generations[digest] = held or await asyncio.to_thread(self._load, folder)
            now_s = self._clock.now()
            self._superseded_s = {old: self._superseded_s.get(old, now_s) for old in self._generations}
            del self._superseded_s[digest]
            self._tidy()
        log.info("%s serves %s newest=%s held=%d", self._name, bundle, digest[:12], len(self._generations))

    async def check_health(self) -> None:
        """Serve's hook. The first check comes after `reconfigure`, if there is one, and before any call.

        Raises:
            ServiceError: when a step has failed: its seats' state cannot be trusted any more.
            CheckpointError, ServiceError: when the bundle cannot be loaded.
        """
        if not self._generations and self._config.bundle:
            await self.load(self._config.bundle)
        if self._broken:
            raise ServiceError(f"{self._name} failed in a step: {self._broken}")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve's hook, what the autoscaling policy reads: seats, and the last seconds' pressure."""
        self._tidy()
        return {
            "seats_used": float(len(self._sessions())),
            "seats": float(self._config.num_seats),
            "refused": float(sum(told.pressure.refused for told in self._told)),
            "late_ticks": float(sum(told.pressure.late_ticks for told in self._told)),
        }

    async def card(self, bundle: str) -> dict[str, Any]:
        """`StageCard` of a bundle (the newest when empty). Raises LeaseGoneError when it is not here."""
        return self._generation(bundle).card.model_dump()

    async def status(self, pressure: dict[str, Any]) -> dict[str, Any]:
        """Takes a `Pressure`, gives a `StageStatus`."""
        self._generation("")
        self._told.append(_Told(self._clock.now(), Pressure(**pressure)))
        self._tidy()
        return StageStatus(
            bundles=tuple(self._generations),
            num_seats=self._config.num_seats,
            seats_used=len(self._sessions()),
            step_p99_ms=self._metrics.tick_ms(99),
            machine=self._machine.latest,
        ).model_dump()

    async def open(self, session: str, conditions: dict[str, Any], bundle: str) -> int:
        """Lease a fresh seat; the session's old seat of the same bundle is closed before.

        A session that moves from one bundle to another holds a seat of each for a while, and counts once.

        Raises:
            SeatsExhausted: when as many sessions as there are seats sit here.
            LeaseGoneError: when the bundle is not here.
        """
        self._tidy()
        stage, _, leases, _ = self._generation(bundle)
        sessions = self._sessions()
        if session not in sessions and len(sessions) >= self._config.num_seats:
            raise leases.exhausted()
        wanted = Conditions(**conditions)
        opened = leases.open(session)
        if opened.closed is not None:
            stage.close(opened.closed)
        stage.open(opened.seat, wanted)
        return opened.lease

    async def adjust(self, lease: int, conditions: dict[str, Any]) -> None:
        """Change a session's voice, style or sampling. Raises LeaseGoneError."""
        generation = self._holding(lease)
        seat = generation.leases.seat(lease)
        assert seat is not None
        generation.stage.adjust(seat, Conditions(**conditions))
        generation.leases.renew(lease)

    async def prime(
        self, lease: int, start: int, user_pcm: np.ndarray, user_codes: np.ndarray, reply: np.ndarray
    ) -> None:
        """Bring a fresh seat to where a session was, one session at a time, between the steps of others.

        Raises:
            LeaseGoneError: when the lease is gone, or goes meanwhile.
            ValueError: when the seat is not fresh or the history does not fit.
        """
        stage, _, leases, _ = self._holding(lease)
        seat = leases.begin_priming(lease)
        if isinstance(seat, Refusal):
            raise ValueError("only a fresh seat can be primed; open another")  # noqa: TRY004 (no type)
        history = History(start, user_pcm, user_codes, reply)
        try:
            async with self._priming:
                await _live_through(stage.prime(seat, history), leases, lease)
        except BaseException:  # also when the caller went away: nobody needs a seat that is half primed
            await self.close(lease)
            raise
        leases.primed(lease, history.end)

    async def step(
        self, leases: np.ndarray, frames: np.ndarray, payload: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """One `LeasedBatch` in, one `Stepped` out.

        Raises:
            ValueError: when the payload is of another type or width, or holds a code that cannot be.
        """
        started_s = self._clock.now()
        self._tidy()
        width, stepped = self._generation("").width_out, list[tuple[list[int], np.ndarray]]()
        status = np.full(len(leases), RowStatus.GONE, np.uint8)
        for generation in self._generations.values():
            rows, seats = _take(generation.leases, leases, frames, status)
            if rows:
                width = generation.width_out
                batch = Batch(np.array(seats, np.int32), payload[rows])
                stepped.append((rows, self._step(generation.stage, batch)))
        answer = np.zeros((len(leases), width), np.int16)
        for rows, rows_answer in stepped:
            answer[rows] = rows_answer
        self._metrics.ticked(started_s)
        return status, answer

    async def renew(self, leases: np.ndarray) -> np.ndarray:
        """Keep leases (int64 `[N]`); gives bool `[N]`, which of them are held."""
        self._tidy()
        tables = [generation.leases for generation in self._generations.values()]
        return np.array([any(table.renew(lease) for table in tables) for lease in leases.tolist()], bool)

    async def close(self, lease: int) -> None:
        """End a lease; nothing happens when it is gone."""
        for generation in self._generations.values():
            seat = generation.leases.close(lease)
            if seat is not None:
                generation.stage.close(seat)
        self._tidy()

    def _step(self, stage: Stage, batch: Batch) -> np.ndarray:
        try:
            return stage.step(batch).payload
        except ValueError:  # the caller's mistake, found before any state was touched
            raise
        except Exception as error:
            self._broken = one_line(error)
            raise

    def _generation(self, bundle: str) -> Generation:
        if not self._generations:
            if not self._config.bundle:
                raise ServiceError(f"{self._name} has no bundle yet; name one in user_config or bundle")
            folder, digest = self._find(self._config.bundle)  # outside Serve nobody checked its health
            self._generations[digest] = self._load(folder)
        digest = bundle or next(reversed(self._generations))
        if digest not in self._generations:
            raise LeaseGoneError(f"{self._name} does not hold bundle {digest[:12]} (any more)")
        return self._generations[digest]

    def _holding(self, lease: int) -> Generation:
        self._tidy()
        for generation in self._generations.values():
            if generation.leases.seat(lease) is not None:
                return generation
        raise LeaseGoneError("the lease has expired, was closed or taken over")

    def _sessions(self) -> set[str]:
        return set[str]().union(*(generation.leases.sessions for generation in self._generations.values()))

    def _tidy(self) -> None:
        """What time and leavings have made void: late leases, old generations, old news."""
        for generation in self._generations.values():
            for seat in generation.leases.expire():
                generation.stage.close(seat)
        for digest, since_s in list(self._superseded_s.items()):
            if not self._generations[digest].leases.sessions and self._clock.now() - since_s > KEPT_S:
                del self._generations[digest], self._superseded_s[digest]
        while self._told and self._told[0].at_s < self._clock.now() - PRESSURE_S:
            self._told.popleft()

    def _find(self, bundle: str) -> tuple[Path, str]:
        """The bundle's folder and digest; fetched when it is in the registry."""
        from paluku.registry.bundle import read_bundle
        from paluku.registry.store import fetch

        folder = fetch(bundle, self._config.tracking_uri, self._config.cache)
        return folder, read_bundle(folder).digest()

    def _load(self, folder: Path) -> Generation:
        stage, card = _load_stage(self._name, folder, self._config)
        leases = LeaseTable(self._config.num_seats, self._config.lease_s, self._clock)
        return Generation(stage, card, leases, _warm_up(stage, card))


def _take(
    table: LeaseTable, leases: np.ndarray, frames: np.ndarray, status: np.ndarray
) -> tuple[list[int], list[int]]:
    """The rows of a batch that a table's seats take now, and those seats; writes its rows' status."""
    rows, seats = [], []
    for row, (lease, frame) in enumerate(zip(leases.tolist(), frames.tolist(), strict=True)):
        seat = table.take(lease, frame)
        if isinstance(seat, int):
            rows.append(row)
            seats.append(seat)
            status[row] = RowStatus.STEPPED
        elif seat is Refusal.OUT_OF_ORDER:
            status[row] = RowStatus.OUT_OF_ORDER
    return rows, seats


async def _live_through(slices: Iterator[None], leases: LeaseTable, lease: int) -> None:
    """Every slice, with turns for others behind it; raises LeaseGoneError when the lease goes meanwhile."""
    while leases.seat(lease) is not None:
        if next(slices, _DONE) is _DONE:
            return
        for _ in range(TURNS_PER_SLICE):
            await asyncio.sleep(0)
    raise LeaseGoneError("the lease was closed while its seat was primed")


def _load_stage(name: StageName, folder: Path, config: ReplicaConfig) -> tuple[Stage, StageCard]:
    """The stage and what it says of itself.

    Raises:
        CheckpointError: when the bundle is damaged, or its parts do not fit.
    """
    from paluku.registry.bundle import load_codec, load_tokenizer, read_bundle
    from paluku.streaming.fused import FusedStage
    from paluku.streaming.stages import DecodeStage, EncodeStage, silence_codes

    num_seats = config.num_seats
    parts, codec, tokenizer = read_bundle(folder), load_codec(folder), load_tokenizer(folder)
    facts: dict[str, Any] = {}
    if name in ("encode", "fused"):
        facts = {"sound_reach_frames": codec.encode_reach_frames, "silence": silence_codes(codec)}
    codec = codec.to(_device())
    match name:
        case "encode":
            stage = EncodeStage(codec, num_seats)
        case "decode":
            stage = DecodeStage(codec, num_seats)
        case "converse":
            stage, facts["acoustic_delay_frames"] = _load_converse(folder, config, codec, tokenizer)
        case "fused":
            converse, facts["acoustic_delay_frames"] = _load_converse(folder, config, codec, tokenizer)
            stage = FusedStage(EncodeStage(codec, num_seats), converse, DecodeStage(codec, num_seats))
    return stage, StageCard(
        stage=name,
        bundle=parts.digest(),
        codec=parts.codec,
        num_seats=num_seats,
        sample_rate_hz=codec.sample_rate_hz,
        frame_samples=codec.frame_samples,
        num_codebooks=codec.num_codebooks,
        tokenizer=tokenizer.to_json(),
        reach_frames=stage.reach_frames,
        **facts,
    )


def _load_converse(
    folder: Path, config: ReplicaConfig, codec: "Codec", tokenizer: "TextTokenizer"
) -> tuple[Stage, int]:
    """Converse and its acoustic delay; raises CheckpointError when codec or tokenizer are not the model's."""
    from paluku.registry.bundle import load_s2s
    from paluku.streaming.stages import ConverseStage

    model = load_s2s(folder)
    speaks = (model.config.num_codebooks, model.config.codebook_size, model.config.text_vocab)
    heard = (codec.num_codebooks, codec.codebook_size, tokenizer.vocab_size)
    if speaks != heard:
        raise CheckpointError(
            f"{folder}: the S2S model has (K, V, text) {speaks}, codec and tokenizer have {heard}; "
            "train it on this codec's tokens"
        )
    model = model.to(_device())
    stage = ConverseStage(model, config.num_seats, guided=config.guided, compiled=config.compiled)
    return stage, model.config.acoustic_delay


def _device() -> str:
    """A GPU where Ray has given the replica one (`num_gpus`): it hides those of others."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _warm_up(stage: Stage, card: StageCard) -> int:
    """Steps and a prime before the first session: the first pay for allocations and lazy imports.

    Gives the width of a row of what a step gives.
    """
    takes_pcm, width = card.stage in ("encode", "fused"), card.num_codebooks
    pcm, codes, reply = (np.zeros((2, n), np.int16) for n in (card.frame_samples, width, FIRST_CODE + width))
    stage.open(0, Conditions())
    for _ in stage.prime(0, History(0, pcm, codes, reply)):
        pass
    batch = Batch(np.zeros(1, np.int32), (pcm if takes_pcm else codes)[:1])
    stepped = [stage.step(batch) for _ in range(WARM_UP_STEPS)]
    stage.close(0)
    return stepped[0].payload.shape[1]
