"""What load, faults and soak conclude from what they measured."""

import json

import numpy as np
import pytest

from jobs import bench_serve, chaos, soak
from jobs.bench_serve import Cell
from paluku.client.latency import Latency
from paluku.client.tally import LoadReport
from paluku.cluster.faults import Usage
from paluku.errors import ServiceError
from paluku.streaming.ports import FIRST_CODE, Batch, Conditions, History
from serve_apps.standin_stages import FRAME_SAMPLES, WIDTH_OUT, K, stage_of

LATENCY = Latency(mean_ms=90.0, std_ms=12.0, p99_ms=120.0, count=100)


def cell(sessions: int = 8, tick_p99_ms: float = 30.0, late_share: float = 0.0, lost: int = 0) -> Cell:
    load = LoadReport(
        frames=100,
        reaction=LATENCY,
        send_reply=LATENCY,
        late_share=late_share,
        own_late=LATENCY,
        counts={"refused": 3},
        refused_in=LATENCY,
        endings={},
    )
    return Cell("graph", sessions, load, lost, {"tick_p50_ms": 20.123, "tick_p99_ms": tick_p99_ms})


def test_the_json_line_of_a_cell() -> None:
    assert json.loads(json.dumps(cell().line)) == {
        "topology": "graph",
        "sessions": 8,
        "reaction_ms": {"mean": 90.0, "std": 12.0, "p99": 120.0},
        "tick_ms": {"p50": 20.12, "p99": 30.0},
        "late_share": 0.0,
        "lost_frames": 0,
        "refused": 3,
    }


@pytest.mark.parametrize(
    ("what", "is_held"),
    [
        ({}, True),
        ({"tick_p99_ms": 40.0}, False),
        ({"late_share": 0.001}, False),
        ({"late_share": 0.0009}, True),
        ({"lost": 1}, False),
    ],
)
def test_what_is_held(what: dict[str, float], is_held: bool) -> None:
    assert cell(**what).is_held is is_held  # type: ignore[arg-type]


def test_sessions_held_end_at_the_first_number_that_is_not() -> None:
    cells = [cell(4), cell(8), cell(12, tick_p99_ms=50.0), cell(16)]
    assert bench_serve.held(cells) == 8
    assert bench_serve.held(cells[2:]) == 0


def test_an_overload_of_a_sweep_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_serve.arguments(["--overload", "--sweep"])
    assert "--overload measures one number of sessions" in capsys.readouterr().err


def test_kinds_are_killed_in_turn_and_a_wrong_one_is_named() -> None:
    assert chaos.kinds("graph", "all") == ("encode", "converse", "decode", "memory", "ingress")
    assert chaos.kinds("fused", "all") == ("speech", "memory", "ingress")
    assert chaos.kinds("graph", "decode") == ("decode",)
    with pytest.raises(ServiceError, match="topology fused has no encode replicas; choose of speech"):
        chaos.kinds("fused", "encode")


def test_growth_is_told_from_filling_up_and_from_noise() -> None:
    series: soak.Series = {}
    for n in range(40):
        filling = 100.0 + 50.0 * min(n, 8) / 8  # fills up, then stays
        leaking = 100.0 + 2.0 * n
        usage = {"Encode": {1: Usage(filling, 50)}, "Ingress": {2: Usage(leaking, 50 + n % 3)}}
        soak.sample(series, usage, tasks=20 + n % 2)
    assert [growth.what for growth in soak.grown(series)] == ["Ingress 2 rss_mb"]


def test_nothing_is_concluded_from_a_process_that_was_seen_thrice() -> None:
    assert soak.grown({"Encode 1 rss_mb": [1.0, 100.0, 1000.0]}) == []


def say(stage: object, session: int, frame: int, seat: int) -> np.ndarray:
    pcm = np.zeros((1, FRAME_SAMPLES), np.int16)
    pcm[0, :2] = session, frame
    return stage.step(Batch(np.array([seat], np.int32), pcm)).payload[0]  # type: ignore[attr-defined]


def test_a_stand_in_answers_with_the_frame_before_also_where_it_was_primed() -> None:
    stage = stage_of("fused", 3)
    stage.open(0, Conditions())
    rows = [say(stage, 7, frame, 0) for frame in range(3)]
    assert all(len(row) == WIDTH_OUT["fused"] for row in rows)
    assert [row[-FRAME_SAMPLES:][:2].tolist() for row in rows] == [[0, 0], [7, 0], [7, 1]]
    codes = np.stack([row[:K] for row in rows])
    reply = np.stack([row[K : 2 * K + FIRST_CODE] for row in rows])
    assert reply[0, FIRST_CODE:].tolist() == [-1] * K
    stage.open(2, Conditions())
    for _ in stage.prime(2, History(0, np.zeros((0, FRAME_SAMPLES), np.int16), codes, reply)):
        pass
    assert np.array_equal(say(stage, 7, 3, 2), say(stage, 7, 3, 0))
    stage.close(2)
    stage.open(2, Conditions())
    assert say(stage, 9, 0, 2)[-FRAME_SAMPLES:][:2].tolist() == [0, 0]
