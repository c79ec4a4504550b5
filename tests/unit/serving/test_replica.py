"""The stage replicas with real models, called as Serve would call them."""

import asyncio
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from paluku.config import resolve
from paluku.errors import CheckpointError
from paluku.serving.ports import LaneCard, SeatTakenError, StageCard
from paluku.serving.replica import ReplicaConfig, StageName, StageReplica
from paluku.streaming.ports import Conditions
from tests.fakes.bundle import tiny_bundle


def config(bundle: Path) -> ReplicaConfig:
    return ReplicaConfig(bundle=str(bundle), tracking_uri="", cache=bundle, num_seats=2, torch_threads=1)


def test_three_replicas_of_one_bundle_make_a_lane_that_replies(tmp_path: Path) -> None:
    asked = config(tiny_bundle(tmp_path))
    encode, converse, decode = (StageReplica(name, asked) for name in get_args(StageName))

    async def run() -> list[np.ndarray]:
        cards = [resolve(StageCard, await stage.card(), "card") for stage in (encode, converse, decode)]
        lane = LaneCard.of(cards)
        assert (lane.num_seats, lane.sample_rate_hz, lane.frame_samples) == (2, 16_000, 640)
        assert lane.acoustic_delay_frames == 1
        for stage in (encode, converse, decode):
            await stage.open("one", 1, Conditions(seed=5).model_dump())
        seats, heard = np.array([1], np.int32), []
        for _ in range(3):
            codes = await encode.step("one", seats, np.zeros((1, lane.frame_samples), np.int16))
            spoken = await converse.step("one", seats, codes)
            assert spoken.shape == (1, 9)
            heard.append(await decode.step("one", seats, spoken[:, 1:]))
        for stage in (encode, converse, decode):
            await stage.close("one", 1)
        with pytest.raises(ValueError, match="seat 1 is not open"):
            await encode.step("one", seats, np.zeros((1, lane.frame_samples), np.int16))
        return heard

    first, *later = asyncio.run(run())
    assert not first.any()
    assert all(pcm.any() for pcm in later)


def test_a_seat_that_a_new_ingress_has_taken_is_closed_to_the_old_one(tmp_path: Path) -> None:
    asked = config(tiny_bundle(tmp_path))
    seats, sound = np.array([0], np.int32), np.full((1, 640), 900, np.int16)

    async def codes(is_shared: bool) -> list[list[int]]:
        encode = StageReplica("encode", asked)
        if is_shared:
            await encode.open("old", 0, Conditions().model_dump())
            await encode.step("old", seats, sound)
        await encode.open("new", 0, Conditions().model_dump())
        heard = [(await encode.step("new", seats, sound)).tolist()]
        if is_shared:
            with pytest.raises(SeatTakenError, match="taken over by another ingress"):
                await encode.step("old", seats, -sound)
            await encode.close("old", 0)  # and does not end the new one's session
        return [*heard, (await encode.step("new", seats, sound)).tolist()]

    assert asyncio.run(codes(is_shared=True)) == asyncio.run(codes(is_shared=False))


def test_a_bundle_whose_parts_do_not_fit_is_not_served(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, num_codebooks=4)
    with pytest.raises(CheckpointError, match=r"the S2S model has \(K, V, text\) \(4, 256,"):
        StageReplica("converse", config(bundle))


def test_a_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it is no bundle"):
        StageReplica("encode", config(tmp_path / "nothing"))
