"""What a dry run says, and that it leaves everything as it was; no Ray is started."""

from pathlib import Path

import pytest

from paluku.cluster.corpus import BuildPlan, plan
from paluku.cluster.report import show_manifests, show_plan
from paluku.config import resolve
from paluku.corpus.building.listing import Listing, SourceSummary
from paluku.corpus.building.standing import Standing
from paluku.corpus.config import CorpusConfig
from paluku.corpus.shards import Manifest
from paluku.errors import CorpusError
from tests.unit.corpus.sources import trees


def settings(folder: Path, *sources: dict[str, object]) -> CorpusConfig:
    return resolve(CorpusConfig, {"out": str(folder / "out"), "sources": sources}, "a.yaml")


def test_a_source_that_is_not_there_is_shown_and_not_fetched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trees.sound(tmp_path / "mine/sita/one.wav", seconds=2.0)
    (tmp_path / "lj").mkdir()
    (tmp_path / "lj/LJSpeech-1.1.tar.bz2").touch()
    before = sorted(tmp_path.rglob("*"))
    config = settings(
        tmp_path,
        {"kind": "slr66", "folder": str(tmp_path / "slr66"), "download": True},
        {"kind": "ljspeech", "folder": str(tmp_path / "lj")},
        {"kind": "folder", "folder": str(tmp_path / "mine")},
    )
    planned = plan(config)
    assert [name for name, _ in planned.to_fetch] == ["slr66", "ljspeech"]
    assert (planned.listing.items, planned.standing) == (1, None)
    show_plan(config, planned)
    shown = " ".join(capsys.readouterr().out.split())
    assert "slr66 │ to be fetched │ ? │ ? │ ? │" in shown
    assert "slr66: https://www.openslr.org/resources/66/te_in_female.zip to be fetched, " in shown
    assert f"ljspeech: {tmp_path}/lj/LJSpeech-1.1.tar.bz2 to be unpacked" in shown
    assert "is known once all is fetched" in shown
    assert sorted(tmp_path.rglob("*")) == before


def test_with_nothing_there_at_all_it_says_so_too(tmp_path: Path) -> None:
    config = settings(tmp_path, {"kind": "slr66", "folder": str(tmp_path / "slr66"), "download": True})
    planned = plan(config)
    assert (planned.listing.items, len(planned.to_fetch)) == (0, 1)
    assert not list(tmp_path.iterdir())


def test_what_a_build_could_not_get_either_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="set download: true"):
        plan(settings(tmp_path, {"kind": "slr66", "folder": str(tmp_path / "slr66")}))


def test_what_is_there_is_listed_as_a_build_does(tmp_path: Path) -> None:
    trees.slr66(tmp_path / "slr66")
    planned = plan(settings(tmp_path, {"kind": "slr66", "folder": str(tmp_path / "slr66"), "download": True}))
    assert (planned.listing.items, planned.standing, planned.to_fetch) == (3, Standing.NEW, ())


def test_names_of_data_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "[/te] clips"
    config = settings(tmp_path, {"kind": "folder", "folder": str(tmp_path)})
    listing = Listing(sha256="", parts=(), sources={name: SourceSummary(licences=("[red]MIT",))})
    show_plan(config, BuildPlan(listing, Standing.NEW, 0))
    manifest = Manifest(
        kind="utterances",
        config_sha256="0" * 64,
        shards=(),
        breakdown={"source": {name: 1.0}},
        licences={name: "MIT"},
        rejects={"[/b]": 1},
    )
    show_manifests({"utterances": manifest})
    shown = capsys.readouterr().out
    assert shown.count(name) == 2
    assert "[red]MIT" in shown
    assert "rejected as [/b]" in shown
