"""Cores, memory, disk, and whether GPU, driver and torch belong together."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import psutil

from paluku.config import Config
from paluku.serving.doctor.finding import Finding, failure, graded, warning, well

GB = 1e9
# One core for Ray and the ingress, one for the stages: the smallest machine the platform was measured on.
CORES = 2
# Ray takes 0.5 GB, MLflow 0.6, each replica with torch 0.5; Ray keeps 30 % for its object store.
MEMORY_FAILS_GB, MEMORY_WARNS_GB = 4.0, 8.0
# The virtual environment alone is 5 GB (with CUDA 9); Ray spills and stops tasks above 95 % of a disk.
DISK_FAILS_GB, DISK_WARNS_GB = 2.0, 20.0

SMI_QUERY = ("--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits")


class Gpu(Config):
    """What the driver says."""

    names: tuple[str, ...]
    driver: str
    memory_mb: tuple[int, ...]
    cuda: str  # the newest CUDA that the driver runs


class Torch(Config):
    """What the installed torch is."""

    version: str
    cuda: str | None  # what it was built for; None: for CPUs alone
    sees_gpu: bool
    error: str = ""  # what a first product on the GPU ended with


class Facts(Config):
    """Of this machine."""

    cores: int
    memory_bytes: int
    disk_free_bytes: int
    folder: Path
    gpu: Gpu | None
    torch: Torch


def facts(folder: Path) -> Facts:
    """Look at this machine; `folder` is where the platform will write."""
    return Facts(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        disk_free_bytes=shutil.disk_usage(folder).free,
        folder=folder,
        gpu=_gpu(),
        torch=_torch(),
    )


def check(found: Facts) -> list[Finding]:
    """Is the machine enough, and does its GPU work?"""
    memory_gb, disk_gb = found.memory_bytes / GB, found.disk_free_bytes / GB
    return [
        graded(
            *("cores", found.cores, 1, CORES, f"{found.cores}"),
            f"give it {CORES} or more: ticks will be late with fewer",
        ),
        graded(
            *("memory", memory_gb, MEMORY_FAILS_GB, MEMORY_WARNS_GB, f"{memory_gb:.1f} GB"),
            f"use a machine with {MEMORY_WARNS_GB:g} GB, or serve fused (topology: fused)",
        ),
        graded(
            *("disk", disk_gb, DISK_FAILS_GB, DISK_WARNS_GB, f"{disk_gb:.1f} GB free at {found.folder}"),
            f"free space there (`make clean` removes .paluku/), or work on a disk with {DISK_WARNS_GB:g} GB",
        ),
        _accelerator(found.gpu, found.torch),
    ]


def _accelerator(gpu: Gpu | None, torch: Torch) -> Finding:
    build = f"torch {torch.version} " + (f"for CUDA {torch.cuda}" if torch.cuda else "for CPUs")
    if gpu is None:
        return well("GPU", f"none; {build}, on the CPU")
    seen = f"{len(gpu.names)} x {gpu.names[0]}, driver {gpu.driver} (CUDA {gpu.cuda}); {build}"
    if torch.cuda is None:
        return warning("GPU", seen, "install torch's CUDA build: pip install torch, without a CPU index")
    if _number(torch.cuda) > _number(gpu.cuda) and not torch.sees_gpu:
        todo = f"install an NVIDIA driver for CUDA {torch.cuda} or newer, or a torch built for {gpu.cuda}"
        return failure("GPU", seen, todo)
    if not torch.sees_gpu:
        return failure("GPU", f"{seen}; torch sees none", "unset CUDA_VISIBLE_DEVICES, or restart the driver")
    if torch.error:
        return failure(
            "GPU", f"{seen}; a product failed ({torch.error})", "install a torch that knows this GPU"
        )
    return well("GPU", seen)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _gpu() -> Gpu | None:
    """None without a driver, or without a GPU that it sees."""
    table, header = _smi(*SMI_QUERY), _smi()
    rows = [row.split(", ") for row in table.splitlines() if row.count(", ") == 2]
    if not rows:
        return None
    cuda = re.search(r"CUDA Version: *([\d.]+)", header)
    return Gpu(
        names=tuple(row[0] for row in rows),
        driver=rows[0][1],
        memory_mb=tuple(int(row[2]) if row[2].isdigit() else 0 for row in rows),
        cuda=cuda[1] if cuda else "0",
    )


def _smi(*words: str) -> str:
    """What nvidia-smi prints; nothing where it is not, fails or hangs."""
    try:
        return subprocess.run(
            ["nvidia-smi", *words], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _torch() -> Torch:
    import torch

    sees_gpu, error = torch.cuda.is_available(), ""
    if sees_gpu:
        try:
            ones = torch.ones(8, 8, device="cuda")
            error = "" if float((ones @ ones).sum()) == 512.0 else "a wrong result"
        except RuntimeError as failed:  # no kernel for this device, no memory, a driver that is broken
            error = str(failed).splitlines()[0]
    version = str(torch.__version__)
    return Torch(version=version, cuda=torch.version.cuda, sees_gpu=sees_gpu, error=error)
