import sys
from pathlib import Path

import pytest

from paluku.corpus.voices import festival, programs
from paluku.corpus.voices.festival import Festival, FestivalConfig
from paluku.corpus.voices.hts import VOICE_VARIABLE, Hts, HtsConfig
from paluku.errors import AudioError, ServiceError


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_program_that_writes_its_file_is_content(tmp_path: Path) -> None:
    programs.run(python("open('made', 'w').write('x')"), tmp_path, tmp_path / "made")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import sys; sys.exit('no such diphone')", "exit code 1: no such diphone"),
        ("print('SIOD ERROR')", "exit code 0: SIOD ERROR"),
        ("open('made', 'w')", "exit code 0: it says nothing"),
    ],
)
def test_one_that_does_not_is_named_with_what_it_said(tmp_path: Path, code: str, says: str) -> None:
    with pytest.raises(AudioError, match=says):
        programs.run(python(code), tmp_path, tmp_path / "made")


def test_one_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_TIMEOUT_S", 0.2)
    with pytest.raises(AudioError, match=r"did not end in"):
        programs.run(python("import signal; signal.pause()"), tmp_path, tmp_path / "made")


def test_a_missing_program_is_named_with_its_packages() -> None:
    with pytest.raises(
        ServiceError, match=r"no-festival is not installed; run: apt-get install .* festvox-te-nsk"
    ):
        Festival(FestivalConfig(program="no-festival"))
    with pytest.raises(ServiceError, match=r"no-hts is not installed; run: apt-get install .* htsengine"):
        Hts(HtsConfig(program="no-hts"))


def test_a_missing_voice_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(festival, "_DATA", tmp_path / "none")
    with pytest.raises(ServiceError, match=r"Telugu voice is not installed .* apt-get install"):
        Festival(FestivalConfig(program=sys.executable))
    monkeypatch.delenv(VOICE_VARIABLE, raising=False)
    with pytest.raises(
        ServiceError, match=r"voice file nk.htsvoice is missing; set hts.voice_file or PALUKU_HTS"
    ):
        Hts(HtsConfig(program=sys.executable))
    with pytest.raises(ServiceError, match=r"none.htsvoice is missing"):
        Hts(HtsConfig(program=sys.executable, voice_file=tmp_path / "none.htsvoice"))


def test_the_environment_names_the_voice_file_unless_the_configuration_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VOICE_VARIABLE, str(tmp_path / "a"))
    assert HtsConfig().located().voice_file == tmp_path / "a"
    assert HtsConfig(voice_file=tmp_path / "b").located().voice_file == tmp_path / "b"
