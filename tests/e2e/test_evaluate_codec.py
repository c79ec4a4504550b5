"""The job as a user starts it, on a tiny seeded codec: tables, files, JSON, a run in MLflow, clear errors."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from jobs import evaluate_codec
from paluku import audio
from paluku.codec.native import NativeCodec
from paluku.errors import StorageError
from paluku.evals import beside, codec_run, sound
from paluku.evals.clips import Clip
from paluku.evals.codec_results import PRINTED
from paluku.evals.judges import Judges
from paluku.registry import tracking
from paluku.registry.artefact import read_card, write_model
from paluku.registry.server import LocalMlflow
from tests.fakes.codec import FakeCodec
from tests.fakes.speech import speech_like
from tests.fakes.training import RATE_HZ, TINY_CODEC

# TINY_CODEC: 4 codebooks of 16 entries are 0.1 kbps each.
FULL_KBPS = 0.4


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "step-000010"
    folder.mkdir()
    torch.manual_seed(0)
    write_model(folder, "codec", TINY_CODEC, NativeCodec(TINY_CODEC).state_dict())
    (folder / "README.md").write_text("---\nlicence: CC-BY-SA-4.0\n---\n")
    return folder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, lines = tmp_path_factory.mktemp("speech"), []
    for seed, (language, speaker) in enumerate([("te", "anu"), ("te", "bala"), ("en", "carl")]):
        audio.write_wav(folder / f"{speaker}.wav", speech_like(seed, 1.2, RATE_HZ), RATE_HZ)
        lines.append({"path": f"{speaker}.wav", "language": language, "speaker": speaker})
    audio.write_wav(folder / "short.wav", speech_like(9, 0.3, RATE_HZ), RATE_HZ)
    lines.append({"path": "short.wav", "language": "en", "speaker": "dan"})
    about = {"source": "made", "licence": "CC0-1.0"}
    (folder / "manifest.jsonl").write_text("\n".join(json.dumps(about | line) for line in lines))
    return folder


@pytest.fixture(autouse=True)
def _light_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    light = {name: sound.METRICS[name] for name in ("si_sdr_db", "mel_distance")}
    monkeypatch.setattr(Judges, "here", lambda **_: Judges(metrics=light))


def run(monkeypatch: pytest.MonkeyPatch, *argv: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate_codec", *map(str, argv)])
    evaluate_codec.main()


def stopped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *argv)
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_rows_a_page_and_sound_of_a_checkpoint(
    codec: Path,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    settings = ("--data", recordings, "--depths", "2,4", "--samples", "1", "--out", out, "--no-baselines")
    run(monkeypatch, codec, *settings)
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["codec"] == "step-000010"
    assert [tuple(each) for each in said["rows"]] == [PRINTED] * 6
    seen = {(each["kbps"], each["language"]): each for each in said["rows"]}
    assert set(seen) == {(kbps, language) for kbps in (0.2, FULL_KBPS) for language in ("te", "en", "all")}
    assert [seen[FULL_KBPS, language]["clips"] for language in ("te", "en", "all")] == [2, 1, 3]
    assert all(each["rtf_encode"] > 0 and each["pesq"] is None for each in said["rows"])
    numbers = json.loads((out / "rows.json").read_text())
    assert [(each["id"], each["reason"]) for each in numbers["ignored"]] == [("short.wav", "too_short")]
    assert {each["speaker"] for each in numbers["speakers"]} == {"anu", "bala", "carl"}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert read_card(codec).hash in page
    assert "CC-BY-SA-4.0" in page
    assert "python -m jobs.evaluate_codec" in page
    [below] = (out / "samples").iterdir()
    heard = {path.stem: len(audio.read(path)[0]) for path in below.iterdir()}
    names = {"original", "step-000010_0.2_kbps", "step-000010_0.4_kbps"}
    assert heard == dict.fromkeys(names, round(1.2 * 16_000))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("{codec}", "--data", "/nowhere"), "/nowhere does not exist; give an existing folder"),
        (("/no/codec", "--data", "{recordings}"), "/no/codec"),
        (("{codec}", "--data", "{recordings}", "--depths", "5"), "the codec has 4 codebooks"),
        (("{codec}", "--data", "{recordings}", "--languages", "hi"), "there is en, te"),
        (("{codec}", "--data", "{recordings}", "--tracking-uri", "http://127.0.0.1:9"), "no MLflow server"),
    ],
)
def test_what_is_wrong_is_one_line(
    argv: tuple[str, ...],
    message: str,
    codec: Path,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = (each.format(codec=codec, recordings=recordings) for each in argv)
    error = stopped(monkeypatch, capsys, *filled, "--no-baselines", "--out", tmp_path / "out")
    assert error.startswith("error: ")
    assert message in error
    assert not any((tmp_path / "out").glob("*"))


def test_a_folder_of_too_little_sound_is_one_line(
    codec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audio.write_wav(tmp_path / "in" / "a.wav", speech_like(0, 0.4), 16_000)
    error = stopped(monkeypatch, capsys, codec, "--data", tmp_path / "in", "--out", tmp_path / "out")
    assert "has no clip to judge (1 too_short)" in error


@pytest.mark.parametrize("depths", ["0", "a", "1.5", "-2"])
def test_depths_are_numbers(
    depths: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is no number from 1 on" in stopped(monkeypatch, capsys, "x", "--data", "y", f"--depths={depths}")


@pytest.mark.ray
def test_a_run_in_mlflow_has_metrics_report_and_sound(
    codec: Path,
    recordings: Path,
    local_mlflow: LocalMlflow,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracked = ("--tracking-uri", local_mlflow.uri, "--experiment", "judged")
    settings = ("--data", recordings, "--depths", "4", "--samples", "1", "--out", tmp_path, "--no-baselines")
    run(monkeypatch, codec, *settings, *tracked)
    client = MlflowClient(local_mlflow.uri)
    experiment = client.get_experiment_by_name("judged")
    assert experiment is not None
    [found] = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert {"si_sdr_db_te_0.4", "mel_distance_en_0.4", "share_used_least_all_0.4"} <= set(found.data.metrics)
    assert found.data.tags["codec_hash"] == read_card(codec).hash
    assert found.data.params["data"] == str(recordings)
    names = {each.path for each in client.list_artifacts(found.info.run_id)}
    assert {"report.html", "rows.json", "samples"} <= names


def test_a_server_that_is_gone_after_the_work_is_a_warning(
    codec: Path,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("paluku.registry.server.check_server", lambda _: None)  # it was there at first
    gone = ("--tracking-uri", "http://127.0.0.1:9")
    run(monkeypatch, codec, "--data", recordings, "--depths", "1", "--no-baselines", "--out", tmp_path, *gone)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["codec"] == "step-000010"
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    "error", [OSError("an upload was cut"), MlflowException("Invalid artifact path"), StorageError("full")]
)
def test_a_run_that_cannot_be_logged_whole_is_failed_and_the_results_are_said(
    error: Exception,
    codec: Path,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended, folders, sent = [], [], []

    def cut(_: object, path: Path, folder: str) -> None:
        folders.append((path.name, folder))
        if len(folders) == 3:
            raise error

    monkeypatch.setattr("paluku.registry.server.check_server", lambda _: None)
    monkeypatch.setattr(tracking, "create_run", lambda *_, **__: "a run")
    monkeypatch.setattr(tracking, "end_run", lambda _, run_id, finished: ended.append((run_id, finished)))
    monkeypatch.setattr(tracking.MlflowReporter, "metrics", lambda _, __, values: sent.append(values))
    monkeypatch.setattr(tracking, "MOST_METRICS", 5)
    monkeypatch.setattr(tracking.MlflowReporter, "artifact", cut)
    settings = ("--depths", "1", "--samples", "1", "--no-baselines", "--out", tmp_path)
    run(monkeypatch, codec, "--data", recordings, *settings, "--tracking-uri", "http://127.0.0.1:9")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["codec"] == "step-000010"
    assert ended == [("a run", False)]
    assert len(sent) > 1
    assert {len(values) for values in sent[:-1]} == {5}
    assert "si_sdr_db_te_0.1" in {name for values in sent for name in values}
    assert folders[:2] == [("report.html", ""), ("rows.json", "")]
    assert folders[2][1].startswith("samples/00_")


class Here:
    """A baseline that gives a wave back as it is."""

    name, kbps = "wire", 256.0

    def __init__(self, why: str | None = None) -> None:
        self._why = why

    def why_absent(self) -> str | None:
        return self._why

    def code(self, wave: Any) -> Any:
        from paluku.evals.baselines import Coded

        return Coded(wave, self.kbps, 0.0, 0.0)


def test_baselines_are_rows_and_what_is_absent_is_said_once(
    codec: Path,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(codec_run, "baselines", lambda: [Here(), Here("no lyra"), Here("no lyra")])
    monkeypatch.setattr(beside, "encodec_cost", lambda clips: cost(clips))
    run(monkeypatch, codec, "--data", recordings, "--depths", "4", "--out", tmp_path)
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert {each["name"] for each in rows} == {"step-000010", "wire", "encodec"}
    assert next(each["si_sdr_db"] for each in rows if each["name"] == "wire") == pytest.approx(100.0)
    assert json.loads((tmp_path / "rows.json").read_text())["notes"] == ["no lyra", beside.ENCODEC_NOTE]


def cost(clips: list[Clip]) -> Any:
    return beside.cost_row("encodec", FakeCodec(), 8, 1.6, clips)
