from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from paluku import audio
from paluku.config import load
from paluku.corpus.config import CorpusConfig
from paluku.corpus.espeak import Espeak
from paluku.corpus.planning import ShardPlan, make_shard, plan_dialogue_shards, plan_utterance_shards
from paluku.corpus.shards import SPLITS, Manifest, ShardSet, write_manifest
from paluku.corpus.sources import Utterance
from paluku.corpus.splits import SplitShares
from paluku.corpus.turns import Turn, read_turns
from paluku.errors import ConfigError, CorpusError
from paluku.voices import VOICES
from tests.fakes.synthesiser import FakeSynthesiser

ROOT = Path(__file__).resolve().parents[3]
FAKE = FakeSynthesiser()
TURNS = [Turn(f"question {number}", f"answer {number}", "t", "CC0-1.0") for number in range(12)]


def config(tmp_path: Path, **more: Any) -> CorpusConfig:
    return CorpusConfig(out=tmp_path, turns=tmp_path / "turns.tsv", **{"dialogues": 24, **more})


def noise(
    path: Path, seconds: float, loudness: float = 0.1, rate_hz: int = 16_000, channels: int = 1
) -> Utterance:
    samples = np.random.default_rng(1).standard_normal((int(seconds * rate_hz), channels))
    soundfile.write(path, (loudness * samples).astype(np.float32), rate_hz)
    return utterance(path)


def utterance(path: Path) -> Utterance:
    return Utterance(id=path.name, path=path, speaker="s", source="test", licence="CC0-1.0")


def made(tmp_path: Path, *items: Utterance):
    plan = ShardPlan(kind="utterances", split="train", number=0, items=items)
    return make_shard(plan, tmp_path, config(tmp_path), FAKE)


def test_no_speaker_is_in_two_splits_and_none_is_lost(tmp_path: Path) -> None:
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for number in range(120):
        (recordings / f"{number % 40}").mkdir(exist_ok=True)
        (recordings / f"{number % 40}" / f"{number}.wav").touch()
    shares = SplitShares(dev=0.3, test=0.3)
    settings = config(tmp_path, recordings=recordings, spoken_utterances=30, rows_per_shard=16, shares=shares)
    plans = plan_utterance_shards(settings, TURNS, FAKE.voices)
    splits: dict[str, set[str]] = defaultdict(set)
    for plan in plans:
        for item in plan.items:
            assert isinstance(item, Utterance)
            splits[item.speaker].add(plan.split)
    assert all(len(found) == 1 for found in splits.values())
    assert set().union(*splits.values()) == set(SPLITS)
    assert sum(len(plan.items) for plan in plans) == 150
    assert max(len(plan.items) for plan in plans) == 16
    assert len({(plan.split, plan.number) for plan in plans}) == len(plans)


def test_no_question_is_in_two_splits_and_users_never_have_a_reply_voice(tmp_path: Path) -> None:
    settings = config(tmp_path, shares=SplitShares(dev=0.3, test=0.3))
    splits: dict[str, set[str]] = defaultdict(set)
    for plan in plan_dialogue_shards(settings, TURNS, FAKE.voices):
        for item in plan.items:
            assert not isinstance(item, Utterance)
            splits[item.question].add(plan.split)
            assert item.user_voice not in VOICES
    assert len(splits) == len(TURNS)
    assert all(len(found) == 1 for found in splits.values())
    assert set().union(*splits.values()) == set(SPLITS)


def test_a_plan_survives_the_way_to_a_worker(tmp_path: Path) -> None:
    settings = config(tmp_path, spoken_utterances=5)
    for plan in [
        *plan_utterance_shards(settings, TURNS, FAKE.voices),
        *plan_dialogue_shards(settings, TURNS, FAKE.voices),
    ]:
        assert ShardPlan.model_validate_json(plan.model_dump_json()) == plan


def test_nothing_to_build_from_is_said(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="recordings=FOLDER or spoken_utterances=COUNT"):
        plan_utterance_shards(config(tmp_path), TURNS, FAKE.voices)


def test_a_recording_becomes_mono_at_the_corpus_rate(tmp_path: Path) -> None:
    rate_hz, seconds = 44_100, 0.5
    time_s = np.arange(int(rate_hz * seconds)) / rate_hz
    tone = 0.4 * np.sin(2 * np.pi * 440 * time_s)
    soundfile.write(tmp_path / "stereo.wav", np.stack([tone, 0 * tone], axis=1), rate_hz)
    outcome = made(tmp_path, utterance(tmp_path / "stereo.wav"))
    assert outcome.shard is not None
    write_manifest(tmp_path, Manifest(kind="utterances", config_sha256="", shards=(outcome.shard,)))
    (row,) = ShardSet(tmp_path, "utterances", "train").rows([0])
    wave, row_hz = audio.read(row["audio"])
    assert (row_hz, wave.shape, row["num_samples"]) == (16_000, (8000, 1), 8000)
    expected = 0.2 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16_000)
    np.testing.assert_allclose(wave[800:-800, 0], expected[800:-800], atol=2e-3)
    assert (row["text"], row["licence"], row["split"]) == (None, "CC0-1.0", "train")


def test_every_reject_keeps_its_reason_and_the_rest_is_written(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF nonsense")
    (tmp_path / "empty.wav").touch()
    outcome = made(
        tmp_path,
        noise(tmp_path / "good.wav", 1.0),
        utterance(tmp_path / "broken.wav"),
        utterance(tmp_path / "empty.wav"),
        utterance(tmp_path / "absent.wav"),
        noise(tmp_path / "short.wav", 0.2),
        noise(tmp_path / "long.wav", 31.0, rate_hz=8000),
        noise(tmp_path / "silent.wav", 1.0, loudness=1e-4),
        Utterance(id="digits", text="42", voice="one", speaker="one", source="test"),
    )
    assert {reject.id: reject.reason for reject in outcome.rejects} == {
        "broken.wav": "broken",
        "empty.wav": "broken",
        "absent.wav": "missing",
        "short.wav": "short",
        "long.wav": "long",
        "silent.wav": "silent",
        "digits": "unspeakable",
    }
    assert outcome.shard is not None
    assert outcome.shard.rows == 1
    assert outcome.num_samples == 16_000


def test_a_shard_of_rejects_alone_is_not_written(tmp_path: Path) -> None:
    outcome = made(tmp_path, utterance(tmp_path / "absent.wav"))
    assert outcome.shard is None
    assert not list(tmp_path.glob("*.parquet"))


@pytest.mark.parametrize("kind", ["utterances", "dialogues"])
def test_the_same_plan_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    settings = config(tmp_path, spoken_utterances=3, dialogues=2, shares=SplitShares(dev=0, test=0))
    planned = plan_utterance_shards if kind == "utterances" else plan_dialogue_shards
    (plan,) = planned(settings, read_turns(ROOT / "jobs/configs/demo_turns.tsv"), Espeak().voices)
    first = make_shard(plan, tmp_path, settings, Espeak())
    assert first.shard is not None
    assert make_shard(plan, tmp_path, settings, Espeak()) == first
    assert not first.rejects


def test_the_shipped_configuration_and_turns_fit_each_other(tmp_path: Path) -> None:
    settings = load(CorpusConfig, ROOT / "jobs/configs/build_corpus.demo.yaml", [f"out={tmp_path}"])
    turns = read_turns(ROOT / settings.turns)
    assert 50 <= len(turns) <= 80
    assert {turn.licence for turn in turns} == {"CC0-1.0"}
    assert len({turn.question for turn in turns}) == len(turns)
    voices = Espeak().voices
    heard = {
        item.speaker: plan.split
        for plan in plan_utterance_shards(settings, turns, voices)
        for item in plan.items
        if isinstance(item, Utterance)
    }
    assert {heard[voice] for voice in VOICES} == {"train"}  # what must be spoken well must be trained on
    for plans in (
        plan_utterance_shards(settings, turns, voices),
        plan_dialogue_shards(settings, turns, voices),
    ):
        assert {plan.split for plan in plans} == set(SPLITS)  # the training loops want a dev split


def test_a_relative_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"out: .* must be absolute"):
        load(CorpusConfig, ROOT / "jobs/configs/build_corpus.demo.yaml", ["out=corpus"])


def test_the_recipe_names_settings_and_not_places(tmp_path: Path) -> None:
    here = config(tmp_path, recordings=tmp_path)
    there = config(tmp_path / "elsewhere", recordings=tmp_path / "moved")
    assert here.recipe_sha256() == there.recipe_sha256()
    assert here.recipe_sha256() != config(tmp_path, seed=1).recipe_sha256()
    assert here.recipe_sha256() != config(tmp_path, rows_per_shard=2).recipe_sha256()
