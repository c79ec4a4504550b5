from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from paluku import audio
from paluku.corpus.building import plain_loop
from paluku.corpus.building.decide import copy_shard, decide
from paluku.corpus.building.listing import list_sources
from paluku.corpus.building.parts import make_part
from paluku.corpus.config import CorpusConfig
from paluku.corpus.preparation.fingerprint import NUM_BYTES
from paluku.corpus.preparation.quality import Reject, UnusableError
from paluku.corpus.shards import ShardInfo, write_shard
from paluku.corpus.sources.config import open_source
from paluku.corpus.storage import Place
from paluku.corpus.utterance import Utterance
from tests.fakes.folders import utterance as row_of


def prepared(utterance: Utterance) -> Iterator[dict[str, Any] | Reject]:
    """Stands in for decoding and preparing: two rows a file, every third file broken."""
    number = int(Path(utterance.id).stem)
    if number % 3 == 2:
        raise UnusableError("broken", "every third")
    for segment in range(2):
        samples = np.random.default_rng(number).standard_normal(4000) / 10
        about = {
            "id": f"{utterance.source}/{utterance.id}#{segment:04d}",
            "audio": audio.to_flac(samples.astype(np.float32), 16_000),
            "num_samples": 4000,
            "source": utterance.source,
            "speaker": utterance.speaker,
            # Files 0 and 6, 1 and 7, ... sound alike.
            "fingerprint": np.random.default_rng([number % 6, segment]).bytes(NUM_BYTES),
        }
        row = row_of(0, 0.25, **about)
        del row["split"]
        yield row


def preparer(*_: object) -> Callable[[Utterance], Iterator[dict[str, Any] | Reject]]:
    return prepared


def in_phases(config: CorpusConfig, work: Place) -> list[ShardInfo]:
    """What `cluster/corpus.py` does, without Ray."""
    listing = list_sources(map(open_source, config.all_sources), 1.0, work)
    parts = [make_part(part, work, prepared).path for part in listing.parts]
    decision = decide(parts, work, config.shares, config.seed, config.shard_mb * 1e6)
    return [
        write_shard(config.out, "utterances", plan.split, plan.number, copy_shard(plan, work))
        for plan in decision.shards
    ]


def test_the_loop_writes_the_bytes_that_the_phases_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(18):
        path = tmp_path / "in" / f"speaker-{number % 5}" / f"{number:03d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(4000), 16_000)
    monkeypatch.setattr(plain_loop, "preparer", preparer)
    settings = {"recordings": tmp_path / "in", "shard_mb": 0.01}
    loop = plain_loop.build_plainly(CorpusConfig(out=str(tmp_path / "loop"), **settings))
    phases = in_phases(CorpusConfig(out=str(tmp_path / "phases"), **settings), Place.of(tmp_path / "work"))
    assert list(loop.shards) == phases
    assert len(phases) > 3
    assert loop.rejects == {"broken": 6, "duplicate": 16}
