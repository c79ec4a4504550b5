"""The stage replicas with real models, called as Serve would call them."""

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from paluku.config import resolve
from paluku.errors import CheckpointError, ConfigError, SeatsExhausted, ServiceError
from paluku.registry.bundle import read_bundle
from paluku.serving.ports import LaneCard, LeaseGoneError, Pressure, RowStatus, StageCard
from paluku.serving.replica import ReplicaConfig, StageName, StageReplica
from paluku.streaming.fused import split
from paluku.streaming.ports import FIRST_CODE, Conditions
from tests.fakes.bundle import tiny_bundle
from tests.fakes.clock import FakeClock

WHO = Conditions(seed=5).model_dump()
SOUND = (np.random.default_rng(0).standard_normal((40, 640)) * 6000).astype(np.int16)
CALM = Pressure().model_dump()
Value = TypeVar("Value")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def better(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same codec, another model."""
    return tiny_bundle(tmp_path_factory.mktemp("better"), seed=1)


def config(bundle: Path | str, num_seats: int = 2) -> ReplicaConfig:
    cache = Path("/nowhere")
    return ReplicaConfig(
        bundle=str(bundle), tracking_uri="", cache=cache, num_seats=num_seats, torch_threads=1
    )


def replica(
    name: StageName, bundle: Path | str, clock: FakeClock | None = None, num_seats: int = 2
) -> StageReplica:
    return StageReplica(name, config(bundle, num_seats), clock or FakeClock())


def done(coroutine: Coroutine[Any, Any, Value]) -> Value:
    return asyncio.run(coroutine)


async def step(
    stage: StageReplica, lease: int, frame: int, row: np.ndarray, says: RowStatus = RowStatus.STEPPED
) -> np.ndarray:
    """One row; the answer's."""
    status, payload = await stage.step(np.array([lease]), np.array([frame]), row[None])
    assert status.tolist() == [says]
    return payload[0]


async def lives(stage: StageReplica, lease: int, rows: np.ndarray, first: int = 0) -> np.ndarray:
    return np.stack([await step(stage, lease, first + n, row) for n, row in enumerate(rows)])


def test_three_replicas_make_a_lane_and_the_fused_one_says_the_same(bundle: Path) -> None:
    async def run() -> None:
        encode, converse, decode = (replica(name, bundle) for name in ("encode", "converse", "decode"))
        fused = replica("fused", bundle)
        cards = [resolve(StageCard, await stage.card(""), "card") for stage in (encode, converse, decode)]
        lane = LaneCard.of(cards)
        assert (lane.sample_rate_hz, lane.frame_samples, lane.num_codebooks) == (16_000, 640, 8)
        assert (lane.acoustic_delay_frames, lane.sound_reach_frames) == (1, 5)
        assert lane.reach_frames == 15 + 1 + 1, "the model's: one layer of 16, a token back, the delay"
        assert lane.codec == read_bundle(bundle).codec
        assert len(lane.silence) == 8
        assert LaneCard.of([resolve(StageCard, await fused.card(""), "card")]) == lane
        leases = [await stage.open("one", WHO, "") for stage in (encode, converse, decode, fused)]
        codes = await lives(encode, leases[0], SOUND[:4])
        reply = await lives(converse, leases[1], codes)
        pcm = await lives(decode, leases[2], reply[:, FIRST_CODE:])
        rows = split(await lives(fused, leases[3], SOUND[:4]), 640)
        for part, together in zip((codes, reply, pcm), rows, strict=True):
            assert np.array_equal(part, together)
        assert not pcm[0].any()
        assert pcm[1:].any(axis=1).all()

    done(run())


def test_each_row_of_a_batch_has_its_own_answer(bundle: Path) -> None:
    async def run() -> None:
        encode, alone = replica("encode", bundle), replica("encode", bundle)
        first, second = await encode.open("a", WHO, ""), await encode.open("b", WHO, "")
        leases, frames = np.array([second, 77, first]), np.array([1, 0, 0])
        status, payload = await encode.step(leases, frames, SOUND[:3])
        assert status.dtype == np.uint8
        assert status.tolist() == [RowStatus.OUT_OF_ORDER, RowStatus.GONE, RowStatus.STEPPED]
        assert not payload[:2].any()
        assert np.array_equal(payload[2], await step(alone, await alone.open("a", WHO, ""), 0, SOUND[2]))
        status, payload = await encode.step(np.array([77]), np.array([0]), SOUND[:1])
        assert (status.tolist(), payload.shape, payload.any()) == ([RowStatus.GONE], (1, 8), False)

    done(run())


def test_seats_are_taken_over_expire_and_run_out(bundle: Path) -> None:
    async def run() -> None:
        clock = FakeClock()
        encode = replica("encode", bundle, clock)
        old = await encode.open("one", WHO, "")
        await lives(encode, old, SOUND[:3])
        new = await encode.open("one", WHO, "")
        fresh = replica("encode", bundle)
        heard = await lives(encode, new, SOUND[5:8])
        assert np.array_equal(heard, await lives(fresh, await fresh.open("one", WHO, ""), SOUND[5:8]))
        await step(encode, old, 3, SOUND[3], RowStatus.GONE)
        await encode.close(old)  # and does not end the new one
        await encode.open("two", WHO, "")
        with pytest.raises(SeatsExhausted, match="all 2 seats are taken; try again in 5 s"):
            await encode.open("three", WHO, "")
        clock.advance(4)
        assert (await encode.renew(np.array([new, old]))).tolist() == [True, False]
        clock.advance(2)
        assert (await encode.status(CALM))["seats_used"] == 1
        await encode.open("three", WHO, "")
        await step(encode, new, 3, SOUND[3])

    done(run())


@pytest.mark.parametrize("name", ["encode", "converse", "decode", "fused"])
def test_a_session_goes_on_at_another_replica(bundle: Path, name: StageName) -> None:
    async def run() -> None:
        fused, here, there = replica("fused", bundle), replica(name, bundle), replica(name, bundle)
        rows = split(await lives(fused, await fused.open("one", WHO, ""), SOUND), 640)
        takes = {"converse": rows.user_codes, "decode": np.ascontiguousarray(rows.reply[:, FIRST_CODE:])}
        row = takes.get(name, SOUND)
        expected = await lives(here, await here.open("one", WHO, ""), row)
        lease = await there.open("one", WHO, "")
        await there.prime(lease, 10, SOUND[20:30], rows.user_codes[10:30], rows.reply[10:30])
        await step(there, lease, 0, row[0], RowStatus.OUT_OF_ORDER)
        assert np.array_equal(await lives(there, lease, row[30:], 30), expected[30:])
        with pytest.raises(ValueError, match="only a fresh seat can be primed"):
            await there.prime(lease, 10, SOUND[20:30], rows.user_codes[10:30], rows.reply[10:30])

    done(run())


def history(frames: int = 30) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    codes = np.zeros((frames, 8), np.int16)
    return 0, SOUND[:frames], codes, np.zeros((frames, FIRST_CODE + 8), np.int16)


def test_others_are_stepped_while_a_seat_is_primed(bundle: Path) -> None:
    async def run() -> None:
        encode, alone = replica("encode", bundle), replica("encode", bundle)
        steps = await encode.open("steps", WHO, "")
        primed = await encode.open("primed", WHO, "")
        priming = asyncio.create_task(encode.prime(primed, *history()))
        await asyncio.sleep(0)
        heard = []
        while not priming.done():
            heard.append(await step(encode, steps, len(heard), SOUND[len(heard) % 40]))
            await step(encode, primed, 0, SOUND[0], RowStatus.OUT_OF_ORDER)
            await asyncio.sleep(0)
        await priming
        assert len(heard) > 5
        sound = np.resize(SOUND, (len(heard), 640))
        expected = await lives(alone, await alone.open("steps", WHO, ""), sound)
        assert np.array_equal(heard, expected)
        await step(encode, primed, 30, SOUND[30])

    done(run())


def test_a_lease_closed_while_it_is_primed_ends_the_priming(bundle: Path) -> None:
    async def run() -> None:
        fused = replica("fused", bundle, num_seats=1)
        lease = await fused.open("one", WHO, "")
        priming = asyncio.create_task(fused.prime(lease, *history()))
        for _ in range(15):
            await asyncio.sleep(0)
        await fused.close(lease)
        after = await fused.open("two", WHO, "")
        with pytest.raises(LeaseGoneError, match="closed while its seat was primed"):
            await priming
        fresh = replica("fused", bundle, num_seats=1)
        expected = await lives(fresh, await fresh.open("two", WHO, ""), SOUND[:5])
        assert np.array_equal(await lives(fused, after, SOUND[:5]), expected)

    done(run())


@pytest.mark.parametrize("how", ["history", "cancelled"])
def test_a_seat_whose_priming_failed_is_free_again(bundle: Path, how: str) -> None:
    async def run() -> None:
        converse = replica("converse", bundle, num_seats=1)
        lease = await converse.open("one", WHO, "")
        if how == "history":
            with pytest.raises(ValueError, match="history must have the shapes"):
                await converse.prime(
                    lease, 0, SOUND[:2], np.zeros((2, 4), np.int16), np.zeros((2, 9), np.int16)
                )
        else:
            priming = asyncio.create_task(converse.prime(lease, *history()))
            await asyncio.sleep(0)
            priming.cancel()
            with pytest.raises(asyncio.CancelledError):
                await priming
        assert (await converse.renew(np.array([lease]))).tolist() == [False]
        await converse.open("two", WHO, "")

    done(run())


def test_adjusting_reaches_the_model(bundle: Path) -> None:
    async def run() -> list[np.ndarray]:
        converse = replica("converse", bundle)
        codes, said = np.zeros((8, 8), np.int16), []
        for session, other in (("kept", WHO), ("adjusted", Conditions(voice="ravi", seed=6).model_dump())):
            lease = await converse.open(session, WHO, "")
            first = await lives(converse, lease, codes[:2])
            await converse.adjust(lease, other)
            said.append(np.concatenate((first, await lives(converse, lease, codes, 2))))
        with pytest.raises(LeaseGoneError, match="has expired, was closed or taken over"):
            await converse.adjust(77, WHO)
        with pytest.raises(LeaseGoneError):
            await converse.prime(77, *history())
        return said

    kept, adjusted = done(run())
    assert np.array_equal(kept[:2], adjusted[:2])
    assert not np.array_equal(kept[2:], adjusted[2:])


def test_sessions_can_be_opened_on_the_old_bundle_while_other_stages_still_load_the_new(
    bundle: Path, better: Path
) -> None:
    async def run() -> None:
        clock = FakeClock()
        converse = replica("converse", bundle, clock)
        old_digest, new_digest = read_bundle(bundle).digest(), read_bundle(better).digest()
        await converse.status(CALM)
        await converse.reconfigure({"bundle": str(better)})
        await converse.reloaded()
        clock.advance(20.0)
        assert (await converse.status(CALM))["bundles"] == (old_digest, new_digest)
        await converse.open("one", WHO, old_digest)
        clock.advance(20.0)  # its lease has expired by now
        assert (await converse.status(CALM))["bundles"] == (new_digest,)

    done(run())


def test_a_reload_serves_both_bundles_until_the_last_seat_of_the_old_is_free(
    bundle: Path, better: Path
) -> None:
    async def run() -> None:
        clock = FakeClock()
        converse = replica("converse", bundle, clock)
        old_digest, new_digest = read_bundle(bundle).digest(), read_bundle(better).digest()
        alone = {path: replica("converse", path) for path in (bundle, better)}
        codes = np.random.default_rng(1).integers(0, 256, (9, 8)).astype(np.int16)
        expected = {p: await lives(r, await r.open("x", WHO, ""), codes) for p, r in alone.items()}
        assert not np.array_equal(expected[bundle], expected[better])
        old = await converse.open("one", WHO, "")
        assert np.array_equal(await lives(converse, old, codes[:3]), expected[bundle][:3])
        await converse.reconfigure({"bundle": str(better)})
        await converse.reloaded()
        assert (await converse.status(CALM))["bundles"] == (old_digest, new_digest)
        assert (await converse.card(""))["bundle"] == new_digest
        assert (await converse.card(old_digest))["bundle"] == old_digest
        # It holds a seat of each while it moves, and one of the two that there are.
        new = await converse.open("one", WHO, new_digest)
        assert (await converse.status(CALM))["seats_used"] == 1
        status, payload = await converse.step(np.array([new, old]), np.array([0, 3]), codes[[0, 3]])
        assert not status.any()
        assert np.array_equal(payload, [expected[better][0], expected[bundle][3]])
        late = await converse.open("two", WHO, old_digest)
        with pytest.raises(SeatsExhausted):
            await converse.open("three", WHO, "")
        await converse.close(old)
        for _ in range(10):  # longer than an unused one is kept
            clock.advance(4.0)
            assert (await converse.renew(np.array([new, late]))).all()
        assert len((await converse.status(CALM))["bundles"]) == 2
        await converse.close(late)
        assert (await converse.status(CALM))["bundles"] == (new_digest,)
        with pytest.raises(LeaseGoneError, match="does not hold bundle"):
            await converse.open("three", WHO, old_digest)
        assert np.array_equal(await lives(converse, new, codes[1:], 1), expected[better][1:])

    done(run())


def test_the_same_bundle_is_not_loaded_twice(bundle: Path, better: Path) -> None:
    async def run() -> None:
        encode = replica("encode", bundle)
        lease = await encode.open("one", WHO, "")
        await encode.reconfigure({"bundle": str(bundle), "revision": "2"})
        await encode.reloaded()
        await encode.reconfigure({"bundle": str(better)})
        await encode.reloaded()
        await encode.reconfigure({"bundle": str(bundle)})  # back to what the session still sits on
        await encode.reloaded()
        digests = read_bundle(better).digest(), read_bundle(bundle).digest()
        assert (await encode.status(CALM))["bundles"] == digests
        await step(encode, lease, 0, SOUND[0])

    done(run())


def test_serve_may_name_the_bundle_after_the_constructor(bundle: Path) -> None:
    async def run() -> None:
        encode = replica("encode", "")
        with pytest.raises(ServiceError, match="encode has no bundle yet; name one in user_config"):
            await encode.card("")
        assert (await encode.record_autoscaling_stats())["seats_used"] == 0
        await encode.reconfigure({"bundle": str(bundle)})
        await encode.reloaded()
        assert (await encode.card(""))["bundle"] == read_bundle(bundle).digest()

    done(run())


@pytest.mark.parametrize("is_named_by_serve", [True, False])
def test_what_serve_names_is_loaded_and_not_what_else_would_be(
    bundle: Path, tmp_path: Path, is_named_by_serve: bool
) -> None:
    async def run() -> None:
        encode = replica("encode", tmp_path / "nothing" if is_named_by_serve else bundle)
        if is_named_by_serve:
            await encode.reconfigure({"bundle": str(bundle)})
            await encode.reloaded()
        await encode.check_health()
        assert (await encode.status(CALM))["bundles"] == (read_bundle(bundle).digest(),)

    done(run())


def test_a_bundle_that_cannot_be_loaded_leaves_the_old_one_serving(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        converse = replica("converse", bundle)
        lease = await converse.open("one", WHO, "")
        # With fewer codebooks than the codec it would be served: the codec's first ones are enough.
        misfit = tiny_bundle(tmp_path, num_codebooks=16)
        with pytest.raises(ConfigError, match="codec has 8 codebooks, not 16"):
            await converse.load(str(misfit))
        # Serve stops a replica that raises here, with all its sessions.
        for user_config in ({"bundle": str(misfit)}, {"bundle": str(tmp_path / "nothing")}, {"bundel": "x"}):
            with caplog.at_level(logging.ERROR, "paluku"):
                await converse.reconfigure(user_config)
                await converse.reloaded()
        for says in ("8 codebooks, not 16", "it is no bundle", "unknown key 'bundel'"):
            assert "converse goes on with its old bundle: " in caplog.text
            assert says in caplog.text
        assert (await converse.status(CALM))["bundles"] == (read_bundle(bundle).digest(),)
        await step(converse, lease, 0, np.zeros(8, np.int16))
        await converse.check_health()

    done(run())


def test_a_replica_that_serves_nothing_yet_says_why_it_cannot(tmp_path: Path) -> None:
    for ask in (StageReplica.check_health, lambda stage: stage.card("")):
        with pytest.raises(CheckpointError, match="it is no bundle"):
            done(ask(replica("encode", tmp_path / "nothing")))
    with pytest.raises(CheckpointError, match="it is no bundle"):
        done(replica("encode", "").reconfigure({"bundle": str(tmp_path / "nothing")}))
    with pytest.raises(ConfigError, match="unknown key 'bundel'"):
        done(replica("encode", "").reconfigure({"bundel": "x"}))


def test_autoscaling_is_told_of_the_last_five_seconds(bundle: Path) -> None:
    async def run() -> None:
        clock = FakeClock()
        encode = replica("encode", bundle, clock)
        await encode.open("one", WHO, "")
        for refused in (1, 2, 3):
            await encode.status(Pressure(refused=refused, late_ticks=10 * refused).model_dump())
            clock.advance(2)
        expected = {"seats_used": 0.0, "seats": 2.0, "refused": 5.0, "late_ticks": 50.0}
        assert await encode.record_autoscaling_stats() == expected, "after 6 s: two rounds, no lease"

    done(run())


def test_a_replica_whose_step_failed_is_not_healthy(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        decode = replica("decode", bundle)
        lease = await decode.open("one", WHO, "")
        with pytest.raises(ValueError, match="codes must lie in"):
            await step(decode, lease, 0, np.full(8, 999, np.int16))
        await decode.check_health()

        def fails(*_: object) -> None:
            raise RuntimeError("CUDA error")

        monkeypatch.setattr("paluku.codec.native.NativeCodec.decode_step", fails)
        with pytest.raises(RuntimeError):
            await step(decode, lease, 1, np.zeros(8, np.int16))
        with pytest.raises(ServiceError, match="decode failed in a step: CUDA error"):
            await decode.check_health()

    done(run())
