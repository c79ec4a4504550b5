"""The job as a user starts it, on a tiny bundle of random weights: numbers, a page, sound, MLflow."""

import json
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from jobs import evaluate_s2s
from paluku import audio
from paluku.registry.server import LocalMlflow
from tests.fakes.bundle import tiny_bundle
from tests.fakes.folders import write_folder
from tests.fakes.planted import REPLIES, judge_lightly, planted
from tests.unit.evals.test_codec_report import Reader

ASKED = {"reply_accuracy", "perplexity", "cross_entropy", "cer_romanised", "speaker_cosine", "speaker_top1"}
ASKED |= {"interruption_stop_rate", "backchannel_hold_rate"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dialogues")
    write_folder(folder, "dialogues", [planted(number) for number in range(3)])
    return folder


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    judge_lightly(monkeypatch)


def run(monkeypatch: pytest.MonkeyPatch, *argv: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate_s2s", *map(str, argv)])
    evaluate_s2s.main()


def test_numbers_a_page_and_sound_beside_the_recorded_replies(
    bundle: Path,
    dialogues: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = ("--dialogues", dialogues, "--cases", "2", "--samples", "1", "--out", tmp_path, "--reference")
    run(monkeypatch, bundle, *settings)
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(said) >= ASKED
    assert said["reference"]["reply_accuracy"] == 1
    assert said["reply_accuracy"] == 0  # noise
    assert said["perplexity"] == pytest.approx(256, rel=0.2)
    numbers = json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8"))
    assert numbers["numbers"] == said
    assert [each["said"] for each in numbers["reference"][0]["exchanges"]][::2] == [REPLIES[0], REPLIES[2]]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    read = Reader(page)
    assert not read.open
    assert all(link.startswith(("#", "data:")) for link in read.references)
    assert "python -m jobs.evaluate_s2s" in page
    [sample] = (tmp_path / "samples").iterdir()
    assert audio.read(sample)[0].shape[1] == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("{bundle}", "--dialogues", "/nowhere"), "/nowhere"),
        (("/no/bundle", "--dialogues", "{dialogues}"), "/no/bundle"),
        (("{bundle}", "--dialogues", "{dialogues}", "--cases", "0"), "cases"),
        (("{bundle}", "--dialogues", "{dialogues}", "--split", "dev"), "no dialogue of split 'dev'"),
        (
            ("{bundle}", "--dialogues", "{dialogues}", "--tracking-uri", "http://127.0.0.1:9"),
            "no MLflow server",
        ),
    ],
)
def test_what_is_wrong_is_one_line(
    argv: tuple[str, ...],
    message: str,
    bundle: Path,
    dialogues: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [each.format(bundle=bundle, dialogues=dialogues) for each in argv]
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *given, "--out", tmp_path)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.ray
def test_a_run_in_mlflow(
    bundle: Path, dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_mlflow: LocalMlflow
) -> None:
    # Of its own: other tests train into `s2s` on the same server.
    out = ("--out", tmp_path, "--tracking-uri", local_mlflow.uri, "--experiment", "judged-s2s")
    run(monkeypatch, bundle, "--dialogues", dialogues, "--cases", "1", "--style", "happy", *out)
    client = MlflowClient(local_mlflow.uri)
    experiment = client.get_experiment_by_name("judged-s2s")
    assert experiment is not None
    [logged] = client.search_runs([experiment.experiment_id])
    assert logged.info.status == "FINISHED"
    assert logged.data.metrics["perplexity"] > 1
    assert logged.data.params["style"] == "happy"
    assert {each.path for each in client.list_artifacts(logged.info.run_id)} >= {"report.html", "samples"}
