"""Token extraction as a user starts it, on a real Ray cluster, with an untrained codec."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paluku import audio
from paluku.cluster.local import LocalRay
from paluku.codec.native import NativeCodec, NativeCodecConfig
from paluku.corpus.dialogues.exchanges import Chaining
from paluku.corpus.dialogues.plans import DialoguesConfig, Texts, plan_shards
from paluku.corpus.dialogues.rendering import Rendering
from paluku.corpus.dialogues.shards import Making, make_shard
from paluku.corpus.shards import SPLITS, Manifest, ShardSet, read_manifest, write_manifest
from paluku.corpus.splits import SplitShares
from paluku.corpus.turns import Intent, Reply
from paluku.registry.artefact import read_card, write_model
from paluku.registry.codecs import load_codec
from paluku.tokens.text import CharTokenizer
from tests.fakes.synthesiser import FakeCast

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "jobs/configs/extract_tokens.demo.yaml"
INTENTS = tuple(
    Intent(f"t.{number}", "t", (f"ప్రశ్న {number}?",), (), (Reply(f"జవాబు {number}.", "neutral"),), "CC0-1.0")
    for number in range(10)
)


def write_dialogues(folder: Path, rate_hz: int) -> Path:
    """Dialogues in shards of three, without Ray."""
    making = Making(rendering=Rendering(sample_rate_hz=rate_hz))
    config = DialoguesConfig(
        out=str(folder),
        cast=folder,
        dialogues=10,
        rows_per_shard=3,
        rendering=making.rendering,
        shares=SplitShares(dev=0.3, test=0.3),
        chaining=Chaining(lengths=(1, 1)),
        seed=1,
    )
    plans = plan_shards(config, Texts(intents=INTENTS, source="turns"), FakeCast())
    assert {plan.split for plan in plans} == set(SPLITS)
    outcomes = [make_shard(plan, folder, FakeCast(), making) for plan in plans]
    shards = tuple(outcome.shard for outcome in outcomes if outcome.shard is not None)
    write_manifest(folder, Manifest(kind="dialogues", config_sha256=config.recipe_sha256(), shards=shards))
    return folder


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = NativeCodecConfig(num_codebooks=8)
    folder = tmp_path_factory.mktemp("codec")
    write_model(folder, "codec", config, NativeCodec(config).state_dict())
    return folder


def extract(ray: LocalRay, out: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    overrides = [f"out={out}", *(f"{key}={value}" for key, value in settings.items())]
    command = [sys.executable, "-m", "jobs.extract_tokens", CONFIG, *overrides]
    return subprocess.run(command, cwd=ROOT, env=ray.env, capture_output=True, text=True, check=False)


@pytest.mark.ray
def test_tokens_are_the_codecs_codes_and_name_their_parents(
    local_ray: LocalRay, codec: Path, tmp_path: Path
) -> None:
    dialogues = write_dialogues(tmp_path / "dialogues", 16_000)
    done = extract(local_ray, tmp_path / "tokens", dialogues=dialogues, codec=codec)
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "tokens", "tokens")
    assert json.loads(done.stdout.splitlines()[-1])["hash"] == manifest.hash
    parents = read_manifest(dialogues)
    assert manifest.parents == {
        "codec": read_card(codec).hash,
        "dialogues": parents.hash,
        "tokenizer": CharTokenizer().digest(),
    }
    _, model = load_codec(codec)
    for split in SPLITS:
        assert manifest.rows(split) == parents.rows(split)
        spoken, coded = (
            ShardSet(dialogues, "dialogues", split),
            ShardSet(tmp_path / "tokens", "tokens", split),
        )
        for dialogue, row in zip(spoken.rows(range(len(spoken))), coded.rows(range(len(coded))), strict=True):
            assert (row["id"], row["voice"], row["split"]) == (dialogue["id"], dialogue["voice"], split)
            check_codes(dialogue, row, model)


def check_codes(dialogue: dict[str, Any], row: dict[str, Any], model: NativeCodec) -> None:
    wave, _ = audio.read(dialogue["audio"])
    assert row["num_frames"] == len(wave) // 640
    assert len(row["text"]) == row["num_frames"]
    for channel, name in enumerate(("agent_codes", "user_codes")):
        expected = model.encode(torch.from_numpy(wave[:, channel].copy())[None, None])
        np.testing.assert_array_equal(row[name].reshape(model.num_codebooks, -1), expected[0].numpy())
    answers = [turn["text"] for turn in dialogue["turns"] if turn["role"] == "agent"]
    assert CharTokenizer().decode(row["text"].tolist()) == "".join(answers)


@pytest.mark.ray
def test_a_corpus_of_another_rate_fails_in_an_actor_and_reads_as_one_line(
    local_ray: LocalRay, codec: Path, tmp_path: Path
) -> None:
    dialogues = write_dialogues(tmp_path / "dialogues", 8_000)
    done = extract(local_ray, tmp_path / "tokens", dialogues=dialogues, codec=codec, actors=1)
    assert done.returncode == 2
    assert "is sampled at 8000 Hz, the codec takes 16000 Hz" in done.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["dialogues"]
