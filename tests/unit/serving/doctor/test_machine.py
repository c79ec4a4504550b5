"""Is the machine enough, and do GPU, driver and torch belong together?"""

from pathlib import Path
from typing import Any

import pytest

from paluku.serving.doctor.finding import Finding
from paluku.serving.doctor.machine import Facts, Gpu, Torch, check, facts

H100 = Gpu(names=("NVIDIA H100", "NVIDIA H100"), driver="550.54", memory_mb=(81_559, 81_559), cuda="12.4")
CUDA = Torch(version="2.13.0+cu124", cuda="12.4", sees_gpu=True)
CPU = Torch(version="2.13.0+cpu", cuda=None, sees_gpu=False)


def found(**other: Any) -> dict[str, Finding]:
    """Of a machine that is well, but for this."""
    well = Facts(
        cores=8,
        memory_bytes=32 * 10**9,
        disk_free_bytes=100 * 10**9,
        folder=Path("/data"),
        gpu=H100,
        torch=CUDA,
    )
    return {finding.check: finding for finding in check(well.model_copy(update=other))}


def test_a_good_machine_has_nothing_to_do() -> None:
    assert {(finding.verdict, finding.todo) for finding in found().values()} == {("ok", "")}


@pytest.mark.parametrize(
    ("other", "line", "verdict", "todo"),
    [
        ({"cores": 1}, "cores", "warn", "2 or more"),
        ({"memory_bytes": 6 * 10**9}, "memory", "warn", "8 GB"),
        ({"memory_bytes": 3 * 10**9}, "memory", "FAIL", "8 GB"),
        ({"disk_free_bytes": 10**10}, "disk", "warn", "make clean"),
        ({"disk_free_bytes": 10**9}, "disk", "FAIL", "make clean"),
        ({"torch": CPU}, "GPU", "warn", "CUDA build"),
        (
            {"torch": CUDA.model_copy(update={"cuda": "13.0", "sees_gpu": False})},
            "GPU",
            "FAIL",
            "driver for CUDA 13.0",
        ),
        ({"torch": CUDA.model_copy(update={"sees_gpu": False})}, "GPU", "FAIL", "CUDA_VISIBLE_DEVICES"),
        ({"torch": CUDA.model_copy(update={"error": "no kernel image"})}, "GPU", "FAIL", "knows this GPU"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(
    other: dict[str, Any], line: str, verdict: str, todo: str
) -> None:
    findings = found(**other)
    assert findings[line].verdict == verdict
    assert todo in findings[line].todo
    assert {name for name, finding in findings.items() if finding.verdict != "ok"} == {line}


def test_a_machine_without_a_gpu_is_well() -> None:
    for torch in (CPU, CUDA.model_copy(update={"sees_gpu": False})):
        assert found(gpu=None, torch=torch)["GPU"].verdict == "ok"


# What nvidia-smi prints, in the two ways it is asked.
SMI = """#!/bin/sh
case "$1" in
  --query*) echo "NVIDIA H200, 570.86.15, 143771"; echo "NVIDIA H200, 570.86.15, 143771" ;;
  *) echo "| NVIDIA-SMI 570.86.15    Driver Version: 570.86.15    CUDA Version: 12.8     |" ;;
esac
"""


def test_the_driver_is_asked_for_its_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert facts(tmp_path).gpu == Gpu(
        names=("NVIDIA H200",) * 2, driver="570.86.15", memory_mb=(143_771,) * 2, cuda="12.8"
    )


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\necho 'No devices were found'\n"])
def test_a_driver_without_a_gpu_is_none(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text(script)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert facts(tmp_path).gpu is None
