"""Engines that are not pip's are tested where they are installed."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.voices import find_hts_voice
from paluku.corpus.voices.espeak import Espeak
from paluku.corpus.voices.festival import PACKAGES, Festival
from paluku.corpus.voices.hts import VOICE_VARIABLE, Hts
from paluku.corpus.voices.port import Engine

TELUGU_NSK = Path("/usr/share/festival/voices/telugu/telugu_NSK_diphone")


def _festival() -> Engine:
    if not shutil.which("festival") or not TELUGU_NSK.is_dir():
        pytest.skip(f"needs Debian's {PACKAGES}")
    return Festival()


def _hts() -> Engine:
    if not shutil.which("hts_engine") or find_hts_voice() is None:
        pytest.skip(f"needs Debian's htsengine, and {VOICE_VARIABLE} to name nk.htsvoice")
    return Hts()


ENGINES: dict[str, Callable[[], Engine]] = {"espeak": Espeak, "festival": _festival, "hts": _hts}


@pytest.fixture(scope="package", autouse=True)
def environment() -> Iterator[None]:
    """What finding the HTS voice sets is unset after these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VOICE_VARIABLE, os.environ.get(VOICE_VARIABLE, ""))
        yield


@pytest.fixture(
    scope="package", params=[("espeak", "m3"), ("espeak", "f1"), ("festival", "nsk_m1"), ("hts", "nk_f1")]
)
def speaker(request: pytest.FixtureRequest) -> tuple[Engine, str]:
    """An engine and one of its voices."""
    name, voice = request.param
    return ENGINES[name](), voice


@pytest.fixture(scope="package")
def festival() -> Engine:
    """Festival, where it is installed."""
    return ENGINES["festival"]()


@pytest.fixture(scope="package", params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine that is installed."""
    return ENGINES[request.param]()
