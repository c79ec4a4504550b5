"""Tokens of dialogues: the same bytes however the work is cut short or ordered; and as a user starts it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paluku import audio
from paluku.cluster.local import LocalRay
from paluku.cluster.tokens import ExtractConfig, Extracted, extract
from paluku.codec.native import NativeCodec, NativeCodecConfig, NetConfig
from paluku.codec.port import Codec
from paluku.config import load
from paluku.corpus.dialogues.exchanges import Chaining
from paluku.corpus.dialogues.plans import DialoguesConfig, Texts, plan_shards
from paluku.corpus.dialogues.rendering import Rendering
from paluku.corpus.dialogues.shards import Making, make_shard
from paluku.corpus.shards import SPLITS, Manifest, ShardSet, read_manifest, write_manifest
from paluku.corpus.splits import SplitShares
from paluku.corpus.turns import Intent, Reply
from paluku.errors import CheckpointError, ConfigError, CorpusError
from paluku.registry.artefact import read_card, write_model
from paluku.registry.codecs import load_codec, with_first_codebooks
from paluku.tokens.merges import learned
from paluku.tokens.text import default_tokenizer
from tests.fakes.synthesiser import FakeCast
from tests.fakes.tasks import InOrder, Stopped

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "jobs/configs/extract_tokens.demo.yaml"
INTENTS = tuple(
    Intent(f"t.{number}", "t", (f"ప్రశ్న {number}?",), (), (Reply(f"జవాబు {number}.", "neutral"),), "CC0-1.0")
    for number in range(10)
)


def write_dialogues(folder: Path, rate_hz: int, seed: int = 1) -> Path:
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
        seed=seed,
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
    small = NetConfig(hidden=16, units=1)
    config = NativeCodecConfig(latent_dim=16, encoder=small, decoder=small, num_codebooks=8)
    folder = tmp_path_factory.mktemp("codec")
    write_model(folder, "codec", config, NativeCodec(config).state_dict())
    return folder


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dialogues(tmp_path_factory.mktemp("dialogues"), 16_000)


def settings(dialogues: Path, codec: Path, out: Path, **more: Any) -> ExtractConfig:
    return ExtractConfig.model_validate({"dialogues": dialogues, "codec": codec, "out": out} | more)


def run(dialogues: Path, codec: Path, out: Path, runner: InOrder | None = None, **more: Any) -> Extracted:
    return extract(settings(dialogues, codec, out, **more), runner or InOrder())


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_tokens_are_the_codecs_codes_and_the_transcripts(
    dialogues: Path, codec: Path, tmp_path: Path
) -> None:
    manifest, hours_per_minute = run(dialogues, codec, tmp_path / "tokens", num_codebooks=4, batch_s=20)
    parents = read_manifest(dialogues)
    assert manifest.parents == {
        "codec": read_card(codec).hash,
        "dialogues": parents.hash,
        "tokenizer": default_tokenizer().digest(),
    }
    assert hours_per_minute is not None
    _, model = load_codec(codec)
    for split in SPLITS:
        assert manifest.rows(split) == parents.rows(split)
        spoken = ShardSet(dialogues, "dialogues", split)
        coded = ShardSet(tmp_path / "tokens", "tokens", split)
        for dialogue, row in zip(spoken.rows(range(len(spoken))), coded.rows(range(len(coded))), strict=True):
            assert (row["id"], row["voice"], row["split"]) == (dialogue["id"], dialogue["voice"], split)
            check_row(dialogue, row, with_first_codebooks(model, 4, "codec"))


def test_train_dialogues_come_in_other_voices_too(dialogues: Path, codec: Path, tmp_path: Path) -> None:
    manifest, _ = run(dialogues, codec, tmp_path / "tokens", other_voices=2)
    parents = read_manifest(dialogues)
    for split in SPLITS:
        assert manifest.rows(split) == parents.rows(split) * (3 if split == "train" else 1)
    coded = ShardSet(tmp_path / "tokens", "tokens", "train")
    for first in range(0, len(coded), 3):
        rows = coded.rows(range(first, first + 3))
        name = rows[0]["id"]
        assert [row["id"] for row in rows] == [name, f"{name}~1", f"{name}~2"]
        assert all(np.array_equal(row["user_text"], rows[0]["user_text"]) for row in rows)
        assert len({row["user_codes"].tobytes() for row in rows}) == 3
    plain, _ = run(dialogues, codec, tmp_path / "plain")
    assert "other_voices" not in plain.recipe


def check_row(dialogue: dict[str, Any], row: dict[str, Any], model: Codec) -> None:
    wave, _ = audio.read(dialogue["audio"])
    assert row["num_frames"] == len(wave) // 640
    for channel, name in enumerate(("agent_codes", "user_codes")):
        expected = model.encode(torch.from_numpy(wave[:, channel].copy())[None, None])[0].numpy()
        # In a batch sums may be rounded otherwise: now and then a code that was nearly another.
        assert np.mean(row[name].reshape(4, -1) == expected) > 0.99
    for role, name in (("agent", "text"), ("user", "user_text")):
        said = [turn["text"] for turn in dialogue["turns"] if turn["role"] == role]
        assert len(row[name]) == row["num_frames"]
        assert default_tokenizer().decode(row[name].tolist()) == "".join(f" {text}" for text in said)


@pytest.mark.parametrize("killed_after", [0, 1, 3])
def test_killed_at_any_shard_and_in_any_order_the_bytes_are_the_same(
    dialogues: Path, codec: Path, tmp_path: Path, killed_after: int
) -> None:
    run(dialogues, codec, tmp_path / "whole")
    out, first, second = tmp_path / "out", InOrder(killed_after=killed_after), InOrder(backwards=True)
    with pytest.raises(Stopped):
        run(dialogues, codec, out, first)
    with pytest.raises(CorpusError, match="not written whole"):
        ShardSet(out, "tokens", "train")
    run(dialogues, codec, out, second)
    shards = len(read_manifest(dialogues).shards)
    assert first.made + second.made == ["tokens"] * shards, "nothing is made twice"
    assert files(out) == files(tmp_path / "whole")


def test_what_is_whole_is_kept_and_a_lost_shard_is_made_again(
    dialogues: Path, codec: Path, tmp_path: Path
) -> None:
    out, again = tmp_path / "out", InOrder()
    manifest, _ = run(dialogues, codec, out)
    known = files(out)
    assert run(dialogues, codec, out, again) == (manifest, None)
    assert again.made == []
    (out / "dev-00000.parquet").unlink()
    run(dialogues, codec, out)
    assert files(out) == known


def test_other_dialogues_codebooks_words_or_stops_are_refused_unless_they_may_replace_it(
    dialogues: Path, codec: Path, tmp_path: Path
) -> None:
    out, tokenizer = tmp_path / "out", tmp_path / "tokenizer.json"
    tokenizer.write_text(learned(["కక"], 389).to_json())
    first, _ = run(dialogues, codec, out)
    other = write_dialogues(tmp_path / "other", 16_000, seed=2)
    with pytest.raises(CorpusError, match="choose another out, or set overwrite=true"):
        run(other, codec, out)
    with pytest.raises(CorpusError, match="choose another out"):
        run(dialogues, codec, out, num_codebooks=2)
    with pytest.raises(CorpusError, match="choose another out"):
        run(dialogues, codec, out, tokenizer=tokenizer)
    with pytest.raises(CorpusError, match="choose another out"):
        run(dialogues, codec, out, stop_s=None)
    second, _ = run(dialogues, codec, out, num_codebooks=2, overwrite=True)
    assert second.parents == first.parents
    assert second.hash != first.hash
    assert "_work" not in files(out)


def test_what_does_not_fit_is_said(dialogues: Path, codec: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has 8 codebooks, not 9"):
        run(dialogues, codec, tmp_path / "out", num_codebooks=9)
    other = write_dialogues(tmp_path / "other", 8_000)
    with pytest.raises(CorpusError, match="is sampled at 8000 Hz, the codec takes 16000 Hz"):
        run(other, codec, tmp_path / "out")
    with pytest.raises(CheckpointError, match="cannot be read as a tokenizer"):
        run(dialogues, codec, tmp_path / "out", tokenizer=codec / "config.json")
    with pytest.raises(CorpusError, match="holds dialogues, not tokens"):
        ShardSet(dialogues, "tokens", "train")
    assert not (tmp_path / "out").exists()


def test_the_shipped_configuration_fits(tmp_path: Path) -> None:
    overrides = [f"dialogues={tmp_path}/dialogues", f"out={tmp_path}/out"]
    config = load(ExtractConfig, ROOT / CONFIG, overrides)
    assert (config.codec, config.codec_folder.name, config.num_codebooks) == ("default", "codec", 8)


def job(ray: LocalRay, out: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    overrides = [f"out={out}", *(f"{key}={value}" for key, value in more.items())]
    command = [sys.executable, "-m", "jobs.extract_tokens", CONFIG, *overrides]
    return subprocess.run(command, cwd=ROOT, env=ray.env, capture_output=True, text=True, check=False)


@pytest.mark.ray
def test_the_job_writes_what_one_process_does_and_damage_that_a_task_finds_reads_as_one_line(
    local_ray: LocalRay, dialogues: Path, codec: Path, tmp_path: Path
) -> None:
    broken, out = tmp_path / "broken", tmp_path / "tokens"
    shutil.copytree(dialogues, broken)
    shard = broken / read_manifest(broken).shards[-1].path
    whole = shard.read_bytes()
    shard.write_bytes(bytes(len(whole)))
    done = job(local_ray, out, dialogues=broken, codec=codec)
    assert done.returncode == 2
    assert f"{shard} cannot be read" in done.stderr.splitlines()[-1]
    shard.write_bytes(whole)
    done = job(local_ray, out, dialogues=broken, codec=codec)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    manifest, _ = run(dialogues, codec, tmp_path / "alone")
    assert (said["parents"], said["hours"]) == (manifest.parents, manifest.hours)
    assert [shard.rows for shard in read_manifest(out).shards] == [shard.rows for shard in manifest.shards]
