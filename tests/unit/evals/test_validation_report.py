import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paluku import audio
from paluku.errors import EvaluationError
from paluku.evals.validation import Sources, Talk, gather, served_ticks_ms
from paluku.evals.validation_report import page
from paluku.registry.bundle import S2S
from tests.fakes.bundle import tiny_bundle
from tests.unit.evals.test_codec_report import EVIL, Reader

RATE_HZ = 16_000
CARD = f"""---
license: mit
---
# The model
It **speaks** [Telugu](../docs/s2s.md).

| a | b |
|---|---|
| 1 | 2 |

{EVIL}

## Limits
It does not
understand.

## After
"""
METRICS = """
# TYPE paluku_tick_seconds histogram
paluku_tick_seconds_bucket{ingress="a",le="0.01"} 2
paluku_tick_seconds_bucket{ingress="a",le="0.02"} 5
paluku_tick_seconds_bucket{ingress="a",le="+Inf"} 6
paluku_tick_seconds_bucket{ingress="b",le="0.01"} 1
paluku_tick_seconds_bucket{ingress="b",le="0.02"} 1
paluku_tick_seconds_bucket{ingress="b",le="+Inf"} 1
"""
VERDICT = {"key": "reply_accuracy", "title": "replies that fit", "candidate": 0.4, "champion": 0.5}
CODEC_ROW = {
    "name": "candidate",
    "language": "all",
    "kbps": 1.6,
    "clips": 2,
    "pesq": 2.5,
    "compression_ratio": 160.0,
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_bundle(tmp_path_factory.mktemp("bundle"))
    (folder / S2S / "README.md").write_text(CARD, encoding="utf-8")
    return folder


def wave(channels: int = 1) -> np.ndarray:
    found = 0.1 * np.sin(np.arange(RATE_HZ) / 10)
    return found if channels == 1 else np.stack([found] * channels, 1)


def sound(path: Path, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(audio.to_flac(wave(channels), RATE_HZ))
    return path


def comparison(folder: Path) -> Path:
    told: dict[str, Any] = {
        "verdicts": [VERDICT | {"has_passed": False, "said": f"40 of 50 {EVIL}"}],
        "numbers": {
            "candidate": {"reply_accuracy": 0.4, "perplexity": 2.5},
            "champion": {"reply_accuracy": 0.5},
        },
        "codec_rows": [CODEC_ROW, CODEC_ROW | {"name": "champion", "kbps": 3.2, "compression_ratio": 80.0}],
        "ticks_ms": {"candidate": [10.0, 20.0], "champion": [12.0]},
    }
    (folder / "candidate").mkdir(parents=True)
    (folder / "comparison.json").write_text(json.dumps(told))
    exchanges = [{"asked": "నీ పేరు?", "said": "పలుకు"}]
    numbers = {
        "numbers": {},
        "data_hash": "d1",
        "sessions": [{"exchanges": exchanges}],
        "notes": ["no recogniser"],
    }
    (folder / "candidate" / "numbers.json").write_text(json.dumps(numbers))
    for who in ("candidate", "champion"):
        sound(folder / who / "samples" / "00_a.flac", channels=2)
    for name in ("original", "candidate", "champion"):
        sound(folder / "codec" / "00_a" / f"{name}.flac")
    return folder


def test_everything_that_was_found_is_on_one_page_that_loads_nothing(bundle: Path, tmp_path: Path) -> None:
    talk = Talk("the demo", sound(tmp_path / "said.flac"), sound(tmp_path / "reply.flac"), EVIL)
    latency = {"mean_ms": 91.25, "std_ms": 12.0, "p99_ms": 130.0, "count": 400}
    sources = Sources(
        bundle,
        comparison=comparison(tmp_path / "judged"),
        talks=[talk],
        stream={"reaction": latency, "server": None},
        metrics=METRICS,
    )
    found = gather(sources)
    text = page(found, "python -m jobs.report")
    read = Reader(text)
    assert not read.open
    assert all(link.startswith(("#", "data:")) for link in read.references)
    assert "<script" not in text
    assert {"model", "verdict", "numbers", "codec", "compression", "latency", "listen", "limits"} <= set(
        read.ids
    )
    # The demo's two, user and two replies, a codec's clip three times.
    assert read.tags.count("audio") == 2 + 3 + 3
    for said in ("<strong>speaks</strong>", "91.2", "40.0%", "50.0%", "160x", "80x", "పలుకు", "refused"):
        assert said in text, said
    assert found.hashes["dialogues"] == "d1"
    assert {"codec", "s2s", "tokenizer", "s2s's codec"} <= set(found.hashes)
    assert "s2s: It does not understand." in found.limits
    assert "no recogniser" in found.limits
    assert "is 40.0%, ≥ 80.0% is asked" in text
    assert {title: len(h) for title, h in found.histograms.items()} == {
        "engine tick, candidate": 2,
        "engine tick, champion": 1,
        "tick of the service, the way between its processes included": 7,
    }


def test_a_bundle_alone_is_a_page_too(bundle: Path) -> None:
    text = page(gather(Sources(bundle)))
    assert not Reader(text).open
    assert "was not compared with a champion" in text
    assert "No latency was measured" in text


def test_buckets_of_every_ingress_are_added_up() -> None:
    # The last bucket has no end: its ticks stand at the highest that has one.
    assert served_ticks_ms(METRICS).tolist() == [10.0] * 3 + [20.0] * 4


def test_a_folder_that_is_none_of_these_is_named(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"holds no rows.json .*make it with jobs/evaluate_codec.py"):
        gather(Sources(bundle, codec=tmp_path))


def test_numbers_of_another_model_are_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps({"codec": "default", "hash": "another", "rows": []}))
    (tmp_path / "numbers.json").write_text(json.dumps({"hashes": {"s2s": "another"}, "numbers": {}}))
    for sources in (Sources(bundle, codec=tmp_path), Sources(bundle, s2s=tmp_path)):
        with pytest.raises(EvaluationError, match=" another, "):
            gather(sources)
