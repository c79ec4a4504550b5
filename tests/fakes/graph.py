"""A Serve application of stand-in stages, and an ingress that does what a test asks by HTTP.

The wiring is the real one (router, fleets, handles, snapshots, autoscaling); nothing of it needs torch.
A stand-in's card says in `stage` which replica answered.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from paluku.errors import SeatsExhausted
from paluku.serving.autoscaling import Autoscaling
from paluku.serving.fleet import HandleFleet
from paluku.serving.ports import LeasedBatch, LeaseGoneError, Pressure, Replica, StageCard, StageStatus
from paluku.serving.router import router_config
from paluku.serving.snapshots import HandleSnapshots, MemoryConfig, MemoryReplica
from paluku.streaming.clock import MonotonicClock
from paluku.streaming.memory import SessionMemory
from paluku.streaming.ports import Conditions


class StandInStage:
    """The wire of `serving.replica.StageReplica`; a step gives back the payload."""

    def __init__(self, seats: int) -> None:
        self._seats = seats
        self._bundles: list[str] = []
        self._leases: set[int] = set()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        await asyncio.sleep(user_config["load_s"])
        self._bundles.append(user_config["bundle"])

    async def card(self, bundle: str) -> dict[str, Any]:
        return StageCard(
            stage=serve.get_replica_context().replica_id.unique_id,
            bundle=bundle or self._bundles[-1],
            codec="codec",
            num_seats=self._seats,
            sample_rate_hz=16_000,
            frame_samples=640,
            num_codebooks=8,
            tokenizer="{}",
            reach_frames=1,
        ).model_dump()

    async def status(self, pressure: dict[str, Any]) -> dict[str, Any]:
        Pressure(**pressure)
        used = len(self._leases)
        return StageStatus(bundles=tuple(self._bundles), num_seats=self._seats, seats_used=used).model_dump()

    async def open(self, session: str, conditions: dict[str, Any], bundle: str) -> int:
        if session == "broken":
            raise ZeroDivisionError("of the stage's own")
        if len(self._leases) == self._seats:
            raise SeatsExhausted("all seats are taken", 5.0)
        self._leases.add(lease := len(self._leases) + 1)
        return lease

    async def adjust(self, lease: int, conditions: dict[str, Any]) -> None:
        if lease not in self._leases:
            raise LeaseGoneError(f"lease {lease} is gone")

    async def step(
        self, leases: np.ndarray, frames: np.ndarray, payload: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(len(leases), np.uint8), payload

    async def close(self, lease: int) -> None:
        self._leases.discard(lease)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        return {"seats_used": len(self._leases), "seats": self._seats, "refused": 0, "late_ticks": 0}


web = FastAPI()


@serve.deployment(max_ongoing_requests=100)
@serve.ingress(web)
class Probe:
    """Watches both deployments, and calls their replicas as it is told."""

    def __init__(
        self, fixed: DeploymentHandle[Any], scaled: DeploymentHandle[Any], memory: DeploymentHandle[Any]
    ) -> None:
        clock = MonotonicClock()
        self._fleets = {"fixed": HandleFleet(fixed, clock), "scaled": HandleFleet(scaled, clock)}
        self._snapshots = HandleSnapshots(memory, 2.0)
        self._is_started = False
        self._left: list[list[float]] = []

    async def _members(self, fleet: str) -> Sequence[Any]:
        if not self._is_started:
            self._is_started = True
            for each in self._fleets.values():
                await each.start(Pressure)
        return self._fleets[fleet].members

    async def _replica(self, fleet: str, replica_id: str) -> Replica:
        return next(m.replica for m in await self._members(fleet) if m.replica.replica_id == replica_id)

    @web.get("/members")
    async def members(self, fleet: str) -> dict[str, Any]:
        return {
            member.replica.replica_id: {"is_leaving": member.is_leaving, **member.status.model_dump()}
            for member in await self._members(fleet)
        }

    @web.get("/pid")
    async def pid(self) -> int:
        return os.getpid()

    @web.get("/call")
    async def call(self, fleet: str, count: int) -> dict[str, Any]:
        """Calls to every member in turn, ten at once: who was answered by another, and how long it took."""
        replicas = [member.replica for member in await self._members(fleet)]
        took_ms: list[float] = []

        async def one(replica: Replica) -> bool:
            began_s = time.perf_counter()
            answered = (await replica.card("")).stage
            took_ms.append(1_000 * (time.perf_counter() - began_s))
            return answered != replica.replica_id

        astray = 0
        for first in range(0, count, 10):
            turn = [replicas[n % len(replicas)] for n in range(first, first + 10)]
            astray += sum(await asyncio.gather(*map(one, turn)))
        return {"astray": astray, "p50_ms": sorted(took_ms)[count // 2], "p99_ms": np.percentile(took_ms, 99)}

    @web.get("/step")
    async def step(self, fleet: str, replica: str) -> str:
        """The payload that came back, or the name of the error."""
        batch = LeasedBatch(np.array([1]), np.array([0]), np.full((1, 8), 7, np.int16))
        try:
            stepped = await (await self._replica(fleet, replica)).step(batch)
        except Exception as error:  # noqa: BLE001 (its name is the answer)
            return type(error).__name__
        return "stepped" if stepped.payload.tolist() == [[7] * 8] else "garbled"

    @web.get("/keep_stepping")
    async def keep_stepping(self, fleet: str, replica: str) -> dict[str, Any]:
        """Step a replica 25 times a second until it does not answer: for how long, and with what error."""
        held, began_s, slowest_s = await self._replica(fleet, replica), time.monotonic(), 0.0
        leaving_s = None
        batch = LeasedBatch(np.array([1]), np.array([0]), np.full((1, 8), 7, np.int16))
        while time.monotonic() - began_s < 60:
            sent_s = time.monotonic()
            try:
                await held.step(batch)
            except Exception as error:  # noqa: BLE001 (its name is the answer)
                gone_s = time.monotonic()
                while any(m.replica is held for m in self._fleets[fleet].members):
                    await asyncio.sleep(0.01)
                return {
                    "left_s": None if leaving_s is None else sent_s - leaving_s,
                    "failed_after_s": gone_s - sent_s,
                    "out_after_s": time.monotonic() - gone_s,
                    "slowest_s": slowest_s,
                    "error": type(error).__name__,
                }
            slowest_s = max(slowest_s, time.monotonic() - sent_s)
            if leaving_s is None and any(
                m.replica is held and m.is_leaving for m in self._fleets[fleet].members
            ):
                leaving_s = time.monotonic()
            await asyncio.sleep(0.04)
        return {"error": ""}

    @web.get("/open")
    async def open(self, fleet: str, replica: str, session: str) -> str:
        """The lease, or the error's name and message."""
        try:
            return str(await (await self._replica(fleet, replica)).open(session, Conditions(), ""))
        except Exception as error:  # noqa: BLE001 (its name is the answer)
            return f"{type(error).__name__}: {error}; {getattr(error, 'retry_s', '')}"

    @web.get("/adjust")
    async def adjust(self, fleet: str, replica: str, lease: int) -> str:
        try:
            await (await self._replica(fleet, replica)).adjust(lease, Conditions())
        except Exception as error:  # noqa: BLE001 (its name is the answer)
            return type(error).__name__
        return "adjusted"

    @web.get("/close")
    async def close(self, fleet: str, replica: str, leases: int) -> None:
        held = await self._replica(fleet, replica)
        for lease in range(1, leases + 1):
            await held.close(lease)

    @web.get("/push")
    async def push(self, owner: str, token: str, frames: int) -> list[str]:
        memory = SessionMemory(50, 10)
        for frame in range(frames):
            row = np.full(10, frame, np.int16)
            memory.append(np.zeros(640, np.int16), row[2:], row)
        pushed = await self._snapshots.push(owner, {token: memory.update({"owner": owner})})
        return list(pushed.claimed)

    @web.get("/claim")
    async def claim(self, owner: str, token: str) -> list[int] | None:
        """The last reply row's frame and how many frames there are."""
        update = await self._snapshots.claim(owner, token)
        return None if update is None else [int(update.history.reply[-1, 0]), len(update.history.reply)]


def app(args: dict[str, Any]) -> Application:
    """`args`: a stage's `seats`, and the `drain_s` for which it answers when it stops."""
    seats, drain_s = args["seats"], args["drain_s"]
    stage = serve.deployment(
        max_ongoing_requests=100,
        request_router_config=router_config(),
        graceful_shutdown_wait_loop_s=drain_s,
        graceful_shutdown_timeout_s=2 * drain_s,
        health_check_period_s=1.0,
        user_config={"bundle": "first", "load_s": 0.0},
        ray_actor_options={"num_cpus": 0.1},
    )(StandInStage)
    quick = Autoscaling(max_replicas=3, downscale_delay_s=1.0, metrics_interval_s=0.5).to_serve()
    memory = serve.deployment(ray_actor_options={"num_cpus": 0.1})(MemoryReplica)
    return Probe.options(ray_actor_options={"num_cpus": 0.1}, health_check_period_s=1.0).bind(
        stage.options(name="Fixed").bind(seats),
        stage.options(name="Scaled", autoscaling_config=quick).bind(seats),
        memory.options(name="Memory").bind(MemoryConfig(max_frames=50, grace_s=30)),
    )
