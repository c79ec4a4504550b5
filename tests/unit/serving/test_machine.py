"""What a process says of its machine."""

import sys
import types
from pathlib import Path

import psutil
import pytest

from paluku.serving import machine
from paluku.serving.machine import MEASURED_EVERY_S, MachineWatch, measured
from tests.fakes.clock import FakeClock


def test_the_disk_is_the_one_a_folder_will_be_on(tmp_path: Path) -> None:
    size = psutil.disk_usage(str(tmp_path)).total
    assert measured(tmp_path / "not" / "yet" / "there").disk_size_bytes == pytest.approx(size, rel=0.1)


def test_a_folder_that_cannot_be_asked_fails_nobody(tmp_path: Path) -> None:
    """A replica's status goes on, and so do its sessions."""
    told = measured(tmp_path / ("x" * 300) / "models")  # the system: file name too long
    assert told.disk_size_bytes == psutil.disk_usage(str(tmp_path)).total


def card(*, used: bool) -> types.SimpleNamespace:
    """What torch tells of a GPU with 3 of 8 bytes free."""
    cuda = types.SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: used, mem_get_info=lambda: (3, 8)
    )
    return types.SimpleNamespace(cuda=cuda)


def test_the_gpu_is_told_by_a_process_that_computes_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", card(used=True))
    told = measured(Path("/"))
    assert (told.gpu_free_bytes, told.gpu_size_bytes) == (3, 8)


def test_asking_never_begins_to_use_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", card(used=False))
    assert measured(Path("/")).gpu_size_bytes is None


def test_a_process_without_torch_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    assert measured(Path("/")).gpu_free_bytes is None
    assert "torch" not in sys.modules


def test_it_is_measured_every_few_seconds_however_often_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    real = machine.measured
    monkeypatch.setattr(machine, "measured", lambda folder: asked.append(folder) or real(folder))
    clock = FakeClock()
    watch = MachineWatch(Path("/"), clock)
    first = watch.latest
    clock.advance(MEASURED_EVERY_S * 0.9)
    assert (watch.latest is first, len(asked)) == (True, 1)
    clock.advance(MEASURED_EVERY_S * 0.2)
    assert (watch.latest is first, len(asked)) == (False, 2)
