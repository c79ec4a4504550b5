from typing import Any

import pytest

from paluku.errors import ServiceError
from paluku.serving.ports import LaneCard, StageCard


def cards(**of_decode: Any) -> list[StageCard]:
    common = {
        "bundle": "b",
        "num_seats": 4,
        "sample_rate_hz": 16_000,
        "frame_samples": 640,
        "tokenizer": "{}",
    }
    return [
        StageCard(stage="encode", **common),
        StageCard(stage="converse", acoustic_delay_frames=1, **common),
        StageCard(stage="decode", **(common | of_decode)),
    ]


def test_a_lane_takes_each_fact_from_the_stage_that_knows_it() -> None:
    lane = LaneCard.of(cards())
    assert (lane.bundle, lane.num_seats, lane.acoustic_delay_frames) == ("b", 4, 1)


@pytest.mark.parametrize("fact", [{"bundle": "another"}, {"num_seats": 8}])
def test_stages_that_do_not_belong_together_are_named(fact: dict[str, Any]) -> None:
    with pytest.raises(ServiceError, match=f"stages encode and decode differ in {next(iter(fact))}"):
        LaneCard.of(cards(**fact))
