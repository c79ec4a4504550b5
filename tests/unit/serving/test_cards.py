from typing import Any

import pytest

from paluku.errors import ServiceError
from paluku.serving.ports import LaneCard, StageCard


def cards(**of_decode: Any) -> list[StageCard]:
    common = {
        "bundle": "b",
        "codec": "c",
        "num_seats": 4,
        "sample_rate_hz": 16_000,
        "frame_samples": 640,
        "num_codebooks": 2,
        "tokenizer": "{}",
        "reach_frames": 3,
    }
    return [
        StageCard(stage="encode", silence=(5, 6), sound_reach_frames=2, **common),
        StageCard(stage="converse", acoustic_delay_frames=1, **(common | {"reach_frames": 40})),
        StageCard(stage="decode", **(common | of_decode)),
    ]


def test_a_lane_takes_each_fact_from_the_stage_that_knows_it() -> None:
    lane = LaneCard.of(cards(num_seats=8))
    assert (lane.bundle, lane.codec, lane.acoustic_delay_frames) == ("b", "c", 1)
    assert lane.silence == (5, 6)
    assert lane.sound_reach_frames == 2
    assert lane.reach_frames == 40  # as far back as any of them


@pytest.mark.parametrize("fact", [{"bundle": "another"}, {"codec": "another"}, {"num_codebooks": 8}])
def test_stages_that_do_not_belong_together_are_named(fact: dict[str, Any]) -> None:
    with pytest.raises(ServiceError, match=f"stages encode and decode differ in {next(iter(fact))}"):
        LaneCard.of(cards(**fact))
