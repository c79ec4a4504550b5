"""The codec's training loop: what a run leaves behind, and what it refuses."""

import logging
import math
import shutil
from pathlib import Path

import pytest
import torch

from paluku.audio import read
from paluku.codec.native import NativeCodec, NativeCodecConfig
from paluku.codec.semantic import SemanticConfig
from paluku.codec.soundstream import SoundStreamCodec
from paluku.codec.soundstream_config import SoundStreamConfig
from paluku.config import load, resolve
from paluku.errors import CheckpointError, ConfigError, CorpusError, TrainingError
from paluku.registry.artefact import appearing_whole, read_model, write_model
from paluku.registry.codecs import load_codec, shipped_codec
from paluku.training import codec_loop
from paluku.training.codec_loop import CodecTrainingConfig
from paluku.training.console import ConsoleReporter
from paluku.training.crops import CropBatch
from paluku.training.world import World, current_world
from tests.fakes.training import RATE_HZ, TINY_CODEC, MemoryReporter, tiny_run
from tests.fakes.utterances import write_utterances


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("utterances")
    return write_utterances(folder, train=4, dev=2, duration_s=0.6, rate_hz=RATE_HZ)


def test_a_run_leaves_checkpoints_samples_and_curves(corpus: Path, tmp_path: Path) -> None:
    reporter = MemoryReporter(run_id="run-7")
    last = codec_loop.run(tiny_run(corpus, tmp_path), reporter)
    assert last == tmp_path / "step-000010"
    assert reporter.checkpoints == [(tmp_path / "step-000005", 5), (last, 10)]
    assert [step for step, _ in reporter.curve("loss")] == list(range(1, 11))
    assert {"band", "mel", "commitment", "learning_rate", "audio_s_per_s"} <= reporter.reported[5][1].keys()
    measured = reporter.reported[-1][1]
    assert 1 <= measured["dev_codebook_3_perplexity"] <= TINY_CODEC.codebook_size
    assert 0 < measured["dev_codebook_share_used"] <= 1
    assert math.isfinite(measured["dev_si_sdr_db"])
    card, config, weights = read_model(last, "codec", NativeCodecConfig)
    NativeCodec(config).load_state_dict(weights)
    assert (card.step, card.run_id, list(card.parents)) == (10, "run-7", ["corpus"])


def test_samples_are_a_clip_before_and_after_and_their_picture(corpus: Path, tmp_path: Path) -> None:
    reporter = MemoryReporter()
    codec_loop.run(tiny_run(corpus, tmp_path, checkpoint_every=10), reporter)
    paths = {path.name: path for path, _ in reporter.artifacts}
    assert {folder for _, folder in reporter.artifacts} == {"samples/step-000010"}
    assert paths.keys() == {"original.wav", "decoded.wav", "spectrograms.png"}
    original, decoded = (read(paths[name]) for name in ("original.wav", "decoded.wav"))
    assert original[1] == decoded[1] == RATE_HZ
    assert len(original[0]) == len(decoded[0]) == int(0.8 * RATE_HZ)
    assert abs(original[0]).max() > 0.1
    assert paths["spectrograms.png"].read_bytes().startswith(b"\x89PNG")


def test_resuming_a_finished_run_reports_its_checkpoint_again(corpus: Path, tmp_path: Path) -> None:
    done = codec_loop.run(tiny_run(corpus, tmp_path / "a"), MemoryReporter())
    reporter = MemoryReporter()
    again = codec_loop.run(tiny_run(corpus, tmp_path / "b"), reporter, resume=done)
    assert reporter.checkpoints == [(again, 10)]
    assert (again / "model.safetensors").read_bytes() == (done / "model.safetensors").read_bytes()


def test_another_model_cannot_be_resumed(corpus: Path, tmp_path: Path) -> None:
    done = codec_loop.run(tiny_run(corpus, tmp_path), MemoryReporter())
    wider = TINY_CODEC.model_copy(update={"latent_dim": 24})
    with pytest.raises(CheckpointError, match="latent_dim: 32 there, 24 here"):
        codec_loop.run(tiny_run(corpus, tmp_path / "b", model=wider), MemoryReporter(), resume=done)


def test_broken_audio_stops_the_run_before_the_weights_are_spoilt(corpus: Path, tmp_path: Path) -> None:
    state = codec_loop.build(tiny_run(corpus, tmp_path), World(0, 1, torch.device("cpu")))
    before = {name: value.clone() for name, value in state.codec.state_dict().items()}
    broken = CropBatch(torch.full((2, 1, 3200), math.nan), torch.tensor([4, 4]))
    with pytest.raises(
        TrainingError, match=r"step 1: the gradient is nan \(band nan, mel nan\); lower learning_rate"
    ):
        codec_loop.step(state, broken)
    torch.testing.assert_close(state.codec.state_dict(), before, atol=0, rtol=0)


def test_losses_compare_what_was_said_with_what_was_heard_then(corpus: Path, tmp_path: Path) -> None:
    codec = codec_loop.build(tiny_run(corpus, tmp_path), World(0, 1, torch.device("cpu"))).codec
    wave = torch.randn(1, 1, 640)
    late = torch.nn.functional.pad(wave, (codec.delay_samples, 0))[..., :640]
    decoded, original = codec_loop.aligned(codec, late, wave)
    assert decoded.shape[-1] == 640 - 80
    assert torch.equal(decoded, original)


def test_a_corpus_without_a_dev_split_is_refused(tmp_path: Path) -> None:
    corpus = write_utterances(tmp_path / "corpus", train=2, dev=0, duration_s=0.5, rate_hz=RATE_HZ)
    with pytest.raises(CorpusError, match="no rows in split 'dev'"):
        codec_loop.run(tiny_run(corpus, tmp_path / "out"), MemoryReporter())


def test_a_relative_folder_and_a_run_too_short_to_quantise_are_refused() -> None:
    values = {"corpus": "here", "out": "/there", "steps": 5}
    with pytest.raises(ConfigError, match="absolute"):
        resolve(CodecTrainingConfig, values, "train.yaml")
    with pytest.raises(ConfigError, match="quantise_after_steps is 50, steps 5"):
        resolve(CodecTrainingConfig, values | {"corpus": "/here"}, "train.yaml")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"frozen": ["bands"]}, r"frozen\.0"),
        ({"frozen": ["semantic"]}, "frozen names semantic, which the model has not"),
        ({"frozen": ["decoder", "encoder"]}, "no network would learn"),
        ({"model": {"architecture": "soundstream", "semantic": {}}}, r"model\.semantic does not learn here"),
        (
            {"model": {"architecture": "soundstream", "semantic": {}}, "begin_from": "lyra"},
            r"model\.semantic does not learn here",
        ),
    ],
)
def test_parts_that_cannot_learn_or_are_not_there_are_refused(
    setting: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(CodecTrainingConfig, {"corpus": "/c", "out": "/o", **setting}, "train.yaml")


def test_what_is_frozen_stays_and_the_rest_learns(corpus: Path, tmp_path: Path) -> None:
    """A decoder goes on from a codec whose first codebook is of what is said."""
    sizes = {"channels": 4, "feature_dim": 8, "num_codebooks": 3, "codebook_size": 8}
    model = SoundStreamConfig(**sizes, semantic=SemanticConfig(dim=4, hidden=8, units=1))
    begun = SoundStreamCodec(model)
    with appearing_whole(tmp_path / "begun") as partial:
        write_model(partial, "codec", model, begun.state_dict())
    frozen = ("encoder", "semantic", "quantizer")
    how = {"model": model, "begin_from": str(tmp_path / "begun"), "frozen": frozen}
    last = codec_loop.run(tiny_run(corpus, tmp_path / "out", **how), MemoryReporter())
    learned = load_codec(last)[1].state_dict()
    stayed = {name: torch.equal(value, learned[name]) for name, value in begun.state_dict().items()}
    assert all(same == name.startswith(frozen) for name, same in stayed.items()), stayed


def test_the_shipped_configuration_fits() -> None:
    paths = ["corpus=/corpus", "out=/out"]
    config = load(CodecTrainingConfig, "jobs/configs/train_codec.demo.yaml", paths)
    assert (config.model.num_codebooks, config.model.codebook_size) == (16, 256)


def test_the_console_speaks_on_one_rank(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "paluku"):
        ConsoleReporter(current_world()).metrics(3, {"loss": 0.25})
        ConsoleReporter(World(1, 2, torch.device("cpu"))).metrics(3, {"loss": 0.5})
    assert caplog.messages == ["step 3 loss=0.25"]


ENCODEC = {
    "architecture": "encodec",
    "n_filters": 2,
    "lstm_layers": 1,
    "dimension": 8,
    "codebook_size": 16,
    "bandwidth_kbps": 0.6,
    "weight_norm": True,
}


def test_encodec_trains_with_the_same_loop(tmp_path: Path) -> None:
    corpus = write_utterances(tmp_path / "corpus", train=2, dev=1, duration_s=0.5, rate_hz=24_000)
    reporter = MemoryReporter()
    how = {"model": ENCODEC, "steps": 4, "batch": 2, "quantise_after_steps": 1, "checkpoint_every": 2}
    done = codec_loop.run(tiny_run(corpus, tmp_path / "out", **how), reporter)
    assert len(reporter.curve("band")) == 4
    _, codec = load_codec(done)
    assert (codec.sample_rate_hz, codec.num_codebooks) == (24_000, 2)
    again = {**how, "begin_from": str(done), "steps": 6}
    fine = MemoryReporter()
    codec_loop.run(tiny_run(corpus, tmp_path / "fine", **again), fine)
    # It goes on from codebooks that are there: they are used from the first step.
    assert "commitment" in fine.reported[0][1]
    resumed = MemoryReporter()
    codec_loop.run(tiny_run(corpus, tmp_path / "fine2", **again), resumed, tmp_path / "fine" / "step-000004")
    assert resumed.curve("loss") == fine.curve("loss")[4:]


def test_weights_to_begin_with_must_fit(corpus: Path, tmp_path: Path) -> None:
    done = codec_loop.run(tiny_run(corpus, tmp_path / "a"), MemoryReporter())
    other = tiny_run(
        corpus, tmp_path / "b", begin_from=str(done), model={**TINY_CODEC.model_dump(), "latent_dim": 24}
    )
    with pytest.raises(CheckpointError, match="has other settings than `model`"):
        codec_loop.run(other, MemoryReporter())
    with pytest.raises(CheckpointError, match="begin_from: there is no model folder /nowhere"):
        codec_loop.run(tiny_run(corpus, tmp_path / "c", begin_from="/nowhere"), MemoryReporter())


def test_a_resumed_run_does_not_need_what_it_began_from(corpus: Path, tmp_path: Path) -> None:
    begun = codec_loop.run(tiny_run(corpus, tmp_path / "a"), MemoryReporter())
    config = tiny_run(corpus, tmp_path / "b", begin_from=str(begun), steps=8)
    codec_loop.run(config, MemoryReporter())
    shutil.rmtree(begun)
    reporter = MemoryReporter()
    codec_loop.run(config, reporter, tmp_path / "b" / "step-000005")
    assert [step for step, _ in reporter.curve("loss")] == [6, 7, 8]


def test_where_to_begin_must_be_found_by_every_worker() -> None:
    with pytest.raises(ConfigError, match="begin_from is 'models/codec'; give encodec or lyra, or"):
        resolve(CodecTrainingConfig, {"corpus": "/c", "out": "/o", "begin_from": "models/codec"}, "x.yaml")


@pytest.mark.parametrize("model", [5, None, "native", {"architecture": "vocoder"}])
def test_a_model_that_is_none_is_refused(model: object) -> None:
    with pytest.raises(ConfigError):
        resolve(CodecTrainingConfig, {"corpus": "/c", "out": "/o", "model": model}, "x.yaml")


def test_a_teacher_needs_25_frames_a_second(tmp_path: Path) -> None:
    values = {"corpus": "/c", "out": "/o", "teacher": "/t", "model": ENCODEC}
    with pytest.raises(ConfigError, match="a teacher has 25 frames a second, encodec has 75"):
        resolve(CodecTrainingConfig, values, "train.yaml")


def test_the_configuration_that_goes_on_from_the_shipped_codec_has_its_sizes() -> None:
    path, given = "jobs/configs/train_codec.finetune.yaml", ["corpus=/c", "out=/o"]
    config = load(CodecTrainingConfig, path, [*given, f"begin_from={shipped_codec()}"])
    with pytest.raises(ConfigError, match=r"model\.semantic does not learn here"):
        load(CodecTrainingConfig, path, given)
    assert config.model == load_codec(shipped_codec())[1].config


@pytest.mark.parametrize("name", ["train_codec.yaml", "train_codec.gpu.yaml", "train_codec.encodec.yaml"])
def test_configurations_fit(name: str) -> None:
    config = load(CodecTrainingConfig, f"jobs/configs/{name}", ["corpus=/corpus", "out=/out"])
    assert config.model.num_codebooks in (8, 16)
