"""Enrolling the reply voices: what is said in dialogues becomes vectors in a model."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import enrol_voices
from paluku.audio import to_flac
from paluku.corpus.shards import Manifest, ShardInfo, Split, write_manifest, write_shard
from paluku.registry.artefact import write_model
from paluku.registry.speakers import open_speakers
from paluku.speakers.encoder import SpeakerEncoder
from tests.fakes.speakers import RATE_HZ, TINY_ENCODER, voice


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    folder = tmp_path / "model"
    folder.mkdir()
    write_model(folder, "speakers", TINY_ENCODER, SpeakerEncoder(TINY_ENCODER).state_dict())
    return folder


def write_dialogues(folder: Path, train: list[tuple[str, float]], test: list[tuple[str, float]]) -> Path:
    """Each of a voice and of so many seconds of reply."""
    shards = (_shard(folder, "train", train), _shard(folder, "test", test))
    write_manifest(folder, Manifest(kind="dialogues", config_sha256="0" * 64, shards=shards))
    return folder


def _shard(folder: Path, split: Split, said: list[tuple[str, float]]) -> ShardInfo:
    rows = []
    for number, (name, reply_s) in enumerate(said):
        reply = voice(len(name), number, reply_s)
        wave = np.stack((reply, np.zeros_like(reply)), axis=1)
        turn = {"role": "agent", "text": "", "start_s": 0.0, "end_s": reply_s, "kind": "turn", "words": []}
        row = {"id": f"{split}-{number}", "voice": name, "style": "happy", "split": split, "turns": [turn]}
        rows.append(row | {"audio": to_flac(wave, RATE_HZ), "sample_rate_hz": RATE_HZ})
    return write_shard(folder, "dialogues", split, 0, rows)


def enrol(model: Path, dialogues: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["enrol_voices", str(model), str(dialogues), "--out", str(out)])
    enrol_voices.main()


def test_a_reply_that_is_too_short_is_left_out_and_said(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [("priya", 3.0), ("ravi", 3.0), ("ravi", 0.5)]
    dialogues = write_dialogues(tmp_path / "d", train, [("priya", 3.0), ("ravi", 3.0)])
    enrol(model, dialogues, tmp_path / "out", monkeypatch)
    told = capsys.readouterr()
    assert "left out: a reply of ravi has 0." in told.err
    assert json.loads(told.out.splitlines()[-1])["held_out"]["recordings"] == 2
    assert sorted(open_speakers(str(tmp_path / "out")).voices) == ["priya", "ravi"]


def test_a_voice_that_is_only_in_the_test_split_is_said_and_nothing_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dialogues = write_dialogues(tmp_path / "d", [("priya", 3.0)], [("priya", 3.0), ("ravi", 3.0)])
    with pytest.raises(SystemExit, match="2"):
        enrol(model, dialogues, tmp_path / "out", monkeypatch)
    assert "no training dialogue has enough speech of ravi" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
