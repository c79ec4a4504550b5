"""Fitting a quantizer to networks that stay: what it leaves behind, and what it refuses."""

from pathlib import Path

import pytest
import torch

from paluku.codec.quantizer import QuantizerConfig
from paluku.codec.semantic import SemanticConfig
from paluku.codec.soundstream import SoundStreamCodec
from paluku.codec.soundstream_config import SoundStreamConfig
from paluku.config import load, resolve
from paluku.corpus.shards import read_manifest
from paluku.errors import CheckpointError, ConfigError, CorpusError
from paluku.registry.artefact import appearing_whole, read_card, write_model
from paluku.registry.codecs import load_codec, shipped_codec
from paluku.training import requantise
from paluku.training.requantise import RequantiseConfig
from tests.fakes.features import write_features
from tests.fakes.training import MemoryReporter
from tests.fakes.utterances import write_utterances

DIMS = 4
BEGUN = SoundStreamConfig(channels=4, feature_dim=8, num_codebooks=2, codebook_size=8)
MODEL = SoundStreamConfig(
    channels=4,
    feature_dim=8,
    num_codebooks=4,
    codebook_size=16,
    quantizer=QuantizerConfig(beam=2),
    semantic=SemanticConfig(dim=DIMS, hidden=32, units=1),
)
LEARNING = {"steps": 90, "batch": 4, "frames": 16, "learning_rate": 1e-2, "log_every": 30}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("requantise")
    corpus = write_utterances(home / "corpus", train=24, dev=4, duration_s=2.0, rate_hz=16_000)
    teacher = write_features(home / "teacher", corpus, DIMS, ("train", "dev"))
    torch.manual_seed(0)
    with appearing_whole(home / "begun") as partial:
        write_model(partial, "codec", BEGUN, SoundStreamCodec(BEGUN).state_dict())
    return {"corpus": corpus, "teacher": teacher, "begin_from": home / "begun"}


def config(folders: dict[str, Path], out: Path, **changes: object) -> RequantiseConfig:
    values = {**folders, "begin_from": str(folders["begin_from"]), "out": out, "model": MODEL}
    values |= {"semantic": LEARNING, "refine_rounds": 2, "max_frames": 2000, "depths": {2: 1.0, 4: 1.0}}
    return RequantiseConfig(**(values | changes))


@pytest.fixture(scope="module")
def fitted(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MemoryReporter]:
    reporter = MemoryReporter(run_id="run-3")
    return requantise.run(config(folders, tmp_path_factory.mktemp("out")), reporter), reporter


def test_it_leaves_a_codec_whose_networks_are_those_it_began_from(
    folders: dict[str, Path], fitted: tuple[Path, MemoryReporter]
) -> None:
    folder, reporter = fitted
    assert reporter.checkpoints == [(folder, 92)]
    card, codec = load_codec(folder)
    assert (card.run_id, codec.config) == ("run-3", MODEL)
    assert card.parents == {
        "corpus": read_manifest(folders["corpus"], "utterances").hash,
        "teacher": read_manifest(folders["teacher"], "features").hash,
        "codec": read_card(folders["begin_from"]).hash,
    }
    begun = load_codec(folders["begin_from"])[1].state_dict()
    weights = codec.state_dict()
    kept = [name for name in begun if name.startswith(("encoder", "decoder"))]
    assert all(torch.equal(weights[name], begun[name]) for name in kept)


def test_the_first_codebook_learns_what_the_teacher_heard(fitted: tuple[Path, MemoryReporter]) -> None:
    curve = [value for _, value in fitted[1].curve("dev_teacher_distance")]
    assert len(curve) == 3
    assert curve[-1] < 0.85  # one: no better than chance
    card = read_card(fitted[0])
    assert card.step == 90


def test_refitting_lowers_what_is_left_over_of_the_speech_it_is_fitted_to(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    def left_over(rounds: int) -> float:
        asked = config(folders, tmp_path / str(rounds), refine_rounds=rounds)
        codec = load_codec(requantise.run(asked, MemoryReporter()))[1]
        assert isinstance(codec, SoundStreamCodec)
        assert codec.semantic is not None
        latents = requantise.hear(codec, asked, "train").latents.T[None]
        decoded = codec.quantizer.decode(codec.quantizer.encode(latents, codec.semantic.codes(latents)))
        return float((decoded - latents).square().sum() / latents.square().sum())

    assert left_over(2) < left_over(0)


def test_without_a_teacher_all_codebooks_code_sound(folders: dict[str, Path], tmp_path: Path) -> None:
    model = MODEL.model_copy(update={"semantic": None})
    folder = requantise.run(config(folders, tmp_path, teacher=None, model=model), MemoryReporter())
    codec = load_codec(folder)[1]
    assert isinstance(codec, SoundStreamCodec)
    assert codec.semantic is None


def test_a_run_is_the_same_every_time(
    folders: dict[str, Path], fitted: tuple[Path, MemoryReporter], tmp_path: Path
) -> None:
    again = requantise.run(config(folders, tmp_path), MemoryReporter("run-3"))
    assert read_card(again).hash == read_card(fitted[0]).hash


def test_a_teacher_and_a_codebook_for_it_belong_together() -> None:
    with pytest.raises(ConfigError, match=r"give both `teacher` and `model\.semantic`, or neither"):
        resolve(RequantiseConfig, {"corpus": "/c", "out": "/o"}, "x.yaml")


def test_the_shipped_configuration_makes_the_shipped_codec() -> None:
    paths = ["corpus=/c", "teacher=/t", "out=/o"]
    config = load(RequantiseConfig, "jobs/configs/requantise_codec.yaml", paths)
    assert config.model == load_codec(shipped_codec())[1].config


def test_a_relative_folder_to_begin_from_is_refused() -> None:
    """Workers run in other folders."""
    values = {"corpus": "/c", "out": "/o", "teacher": "/t", "begin_from": "models/codec"}
    with pytest.raises(ConfigError, match="models/codec must be absolute"):
        resolve(RequantiseConfig, values, "x.yaml")


def test_networks_of_other_sizes_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    model = MODEL.model_copy(update={"channels": 8})
    with pytest.raises(CheckpointError, match="has other networks than `model`"):
        requantise.run(config(folders, tmp_path, model=model), MemoryReporter())


def test_too_little_speech_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    model = MODEL.model_copy(update={"codebook_size": 4096})
    with pytest.raises(CorpusError, match=r"frames of speech, fewer than a codebook's 4096 entries"):
        requantise.run(config(folders, tmp_path, model=model), MemoryReporter())
