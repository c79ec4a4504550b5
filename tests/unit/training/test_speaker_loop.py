"""The speaker encoder's training loop: what a run leaves behind, and what it refuses."""

import math
from pathlib import Path

import pytest
import torch

from paluku.config import load, resolve
from paluku.errors import CheckpointError, ConfigError, CorpusError, TrainingError
from paluku.registry.speakers import open_speakers
from paluku.training import speaker_loop
from paluku.training.speaker_config import SpeakerTrainingConfig
from paluku.training.speaker_crops import SpeakerBatch
from paluku.training.world import World
from tests.fakes.speakers import TINY_ENCODER, tiny_speaker_run, write_speakers
from tests.fakes.training import MemoryReporter

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speakers(tmp_path_factory.mktemp("speakers"), train=4, dev=3)


def test_a_run_leaves_checkpoints_and_curves(corpus: Path, tmp_path: Path) -> None:
    reporter = MemoryReporter(run_id="run-7")
    last = speaker_loop.run(tiny_speaker_run(corpus, tmp_path), reporter)
    assert reporter.checkpoints == [(tmp_path / "step-000005", 5), (last, 10)]
    assert [step for step, _ in reporter.curve("loss")] == list(range(1, 11))
    measured = reporter.reported[-1][1]
    assert 0 <= measured["unseen_equal_error_rate"] <= 1
    assert measured["unseen_speakers"] == 3
    opened = open_speakers(str(last))
    assert opened.encoder.config == TINY_ENCODER
    assert (opened.card.step, opened.card.run_id, list(opened.card.parents)) == (10, "run-7", ["corpus"])
    assert not opened.voices


def test_the_margin_climbs_between_two_steps(corpus: Path, tmp_path: Path) -> None:
    how = {"steps": 100, "margin": 0.3, "margin_from_share": 0.2, "margin_to_share": 0.5}
    config = tiny_speaker_run(corpus, tmp_path, **how)
    assert [config.margin_at(step) for step in (0, 20, 35, 50, 99)] == pytest.approx([0, 0, 0.15, 0.3, 0.3])


def test_other_speakers_cannot_be_resumed(corpus: Path, tmp_path: Path) -> None:
    done = speaker_loop.run(tiny_speaker_run(corpus, tmp_path / "a", steps=1), MemoryReporter())
    faster = tiny_speaker_run(corpus, tmp_path / "b", speeds=(0.9, 1.0))
    with pytest.raises(CheckpointError, match="was trained on 4 speakers, not 8"):
        speaker_loop.run(faster, MemoryReporter(), resume=done)


def test_broken_audio_stops_the_run_before_the_weights_are_spoilt(corpus: Path, tmp_path: Path) -> None:
    state = speaker_loop.build(tiny_speaker_run(corpus, tmp_path), ALONE, 4)
    before = {name: value.clone() for name, value in state.classifier.named_parameters()}
    broken = SpeakerBatch(torch.full((2, 1, 4_000), math.nan), torch.tensor([0, 1]))
    with pytest.raises(TrainingError, match=r"step 1: the gradient is nan \(loss nan\); lower learning_rate"):
        speaker_loop.step(state, broken)
    torch.testing.assert_close(dict(state.classifier.named_parameters()), before, atol=0, rtol=0)


def test_nobody_to_compare_is_refused(tmp_path: Path) -> None:
    corpus = write_speakers(tmp_path / "corpus", train=2, dev=1)
    with pytest.raises(CorpusError, match="split 'dev' has no source with two speakers"):
        speaker_loop.run(tiny_speaker_run(corpus, tmp_path / "out"), MemoryReporter())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"crop_s": (3.0, 2.0)}, "from the least to the greatest"),
        ({"speeds": (1.0, 1.0)}, r"speeds is \(1\.0, 1\.0\); give each once"),
        ({"batch": 1, "utterances_per_speaker": 1}, "need two crops"),
        ({"crop_s": (0.1, 2.0)}, "crops below 0.2 s"),
        ({"margin_from_share": 0.5, "margin_to_share": 0.4}, "margin_from_share is greater"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(SpeakerTrainingConfig, {"corpus": "/c", "out": "/o", **setting}, "x.yaml")


def test_the_shipped_configuration_fits() -> None:
    config = load(SpeakerTrainingConfig, "jobs/configs/train_speakers.yaml", ["corpus=/corpus", "out=/out"])
    assert config.model.dim == 192
