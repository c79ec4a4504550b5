"""What a worker reads: a pure function of seed and step, the same however it is shared out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paluku.corpus.shards import ShardSet
from paluku.training.s2s_data import Ahead, Feed, Pass, in_gaps
from paluku.training.world import World
from tests.fakes.tokens import tiny_s2s_run, write_tokens

CPU = torch.device("cpu")
DRAWN = {"row_frames": 20, "depth_share": 0.4, "drop_speaker": 0.5, "drop_style": 0.2}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("tokens"), train=20)


def feed(folder: Path, rank: int = 0, size: int = 1, split: str = "train", **changes: Any) -> Feed:
    config = tiny_s2s_run(folder, folder, **{**DRAWN, **changes})
    return Feed(config, ShardSet(folder, "tokens", split), World(rank, size, CPU))


def rows(passes: list[Pass]) -> list[list[list[int]]]:
    """Of each row its text, its documents' lengths, its conditions, and the frames whose codes are asked."""
    found = []
    for each in passes:
        B, T = each.tokens.text.shape
        assert each.depth_at is not None
        for b in range(B):
            here = each.tokens.document[b]
            documents = sorted(set(here[here >= 0].tolist()))
            asked = each.depth_at[(each.depth_at >= b * T) & (each.depth_at < (b + 1) * T)] - b * T
            voices = each.tokens.voice[documents].tolist()
            keeps = [int(k) for part in (each.has_speaker, each.has_style) for k in part[documents]]
            lengths = [int((here == n).sum()) for n in documents]
            found.append([each.tokens.text[b].tolist(), lengths, voices, keeps, asked.tolist()])
    return found


def test_workers_and_passes_share_out_what_one_would_read(tokens: Path) -> None:
    whole = rows(feed(tokens, batch=4).step(7))
    assert len(whole) == 4
    assert [row for r in range(2) for row in rows(feed(tokens, r, 2, batch=2).step(7))] == whole
    assert rows(feed(tokens, batch=2, accumulate=2).step(7)) == whole
    assert rows(feed(tokens, batch=4).step(7)) == whole, "nothing is remembered"
    assert rows(feed(tokens, batch=4).step(8)) != whole


def test_an_epoch_has_every_document_once(tokens: Path) -> None:
    data = feed(tokens, batch=1)
    count = len(data)
    seen = [length for step in range(count) for row in rows(data.step(step)) for length in row[1]]
    assert data.fill == pytest.approx(sum(seen) / (20 * len(data)))
    assert sorted(seen) == sorted(min(5 + n % 10, 10) for n in range(20))


def test_conditions_are_dropped_and_frames_asked_for_as_often_as_said(tokens: Path) -> None:
    data = feed(tokens, batch=20)
    passes = [each for step in range(20) for each in data.step(step)]
    speakers, styles = (
        torch.cat([getattr(p, name) for p in passes]) for name in ("has_speaker", "has_style")
    )
    assert speakers.float().mean() == pytest.approx(0.5, abs=0.05)
    assert styles.float().mean() == pytest.approx(0.8, abs=0.05)
    asked = sum(len(p.depth_at) for p in passes)
    frames = sum(int((p.tokens.document >= 0).sum()) for p in passes)
    assert asked / frames == pytest.approx(0.4, abs=0.02)
    inside = [p.tokens.document.flatten()[p.depth_at] >= 0 for p in passes]
    assert all(bool(each.all()) for each in inside)


def test_every_worker_judges_its_share_in_as_many_passes(tokens: Path) -> None:
    """Three dev dialogues in three rows: of four workers the last one's pass does not count."""
    shares = [feed(tokens, rank, 4, "dev", row_frames=10, batch=2).beginnings() for rank in range(4)]
    assert [len(share) for share in shares] == [1, 1, 1, 1]
    assert [counts for ((_, counts),) in shares] == [True, True, True, False]
    alone = feed(tokens, split="dev", row_frames=10, batch=2, evaluate_batches=1).beginnings()
    assert [(len(each.tokens.text), counts) for each, counts in alone] == [(2, True)]
    assert alone[0][0].depth_at is None
    assert alone[0][0].has_speaker.all()


def test_reading_ahead_gives_what_reading_would_and_no_more() -> None:
    asked: list[int] = []

    def read(step: int) -> int:
        asked.append(step)
        if step == 6:
            raise ValueError("no row 6")
        return step * step

    with Ahead(read, last=5) as ahead:
        assert [ahead(step) for step in (2, 3, 5)] == [4, 9, 25]
    assert asked == [2, 3, 4, 5]
    with Ahead(read, last=8) as ahead:
        assert ahead(5) == 25
        with pytest.raises(ValueError, match="no row 6"):
            ahead(6)


def test_codebooks_and_frames_that_are_dropped_are_not_heard(tokens: Path) -> None:
    """The last codebooks of some dialogues, all codebooks of some frames; nothing else is touched."""
    plain, worse = feed(tokens, batch=8), feed(tokens, batch=8, drop_codebooks=0.5, hide_frames=0.3)
    lost, kinds = [], set()
    for step in range(8):
        [whole], [other] = plain.step(step), worse.step(step)
        assert torch.equal(whole.tokens.agent_codes, other.tokens.agent_codes)
        assert torch.equal(whole.tokens.user_text, other.tokens.user_text)
        inside = whole.tokens.document >= 0
        gone = other.tokens.user_codes == worse.config.model.pad_code
        assert torch.equal(
            torch.where(gone, 0, other.tokens.user_codes), torch.where(gone, 0, whole.tokens.user_codes)
        )
        assert not gone.transpose(1, 2)[~inside].any()
        kept = (~gone).sum(dim=1)[inside]
        # Codebooks go from the last one on.
        assert torch.equal(~gone.transpose(1, 2)[inside], torch.arange(3) < kept[:, None])
        lost += (kept == 0).tolist()
        kinds |= set(kept.tolist())
    assert kinds == {0, 1, 2, 3}
    assert 0.1 < sum(lost) / len(lost) < 0.2, "between 0 and 0.3 of each dialogue"
    [first], [again] = worse.step(3), worse.step(3)
    assert torch.equal(first.tokens.user_codes, again.tokens.user_codes)
    [(judged, _), *_] = worse.beginnings()
    assert (judged.tokens.user_codes < worse.config.model.pad_code).all(), "the dev split is heard whole"


def test_of_each_dialogue_another_share_lies_in_gaps() -> None:
    """None of some, nearly all of others: what is known of a dialogue is anything in between."""
    lengths = [400] * 3000
    gaps = in_gaps(0.9, lengths, np.random.default_rng(0)).reshape(3000, 400)
    shares = np.sort(gaps.mean(axis=1))
    assert np.abs(shares - np.linspace(0, 0.9, 3000)).max() < 0.12
    assert not in_gaps(0.0, lengths, np.random.default_rng(0)).any()
    assert shares.mean() == pytest.approx(0.45, abs=0.01)
    edges = np.diff(gaps.astype(int), axis=1)
    assert gaps.sum() / (edges == 1).sum() > 4, "they are longer than a frame"


def test_frames_of_our_own_codes_are_not_seen(tokens: Path) -> None:
    [plain], [worse] = (feed(tokens, batch=8, hide_own=share).step(2) for share in (0.0, 0.9))
    assert plain.sees_own is None
    assert worse.sees_own is not None
    assert torch.equal(plain.tokens.agent_codes, worse.tokens.agent_codes), "they are asked for all the same"
    assert worse.sees_own[worse.tokens.document < 0].all()
    assert 0.2 < (~worse.sees_own)[worse.tokens.document >= 0].float().mean() < 0.7
    assert worse.to(torch.device("meta")).sees_own is not None
