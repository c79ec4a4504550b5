"""torchaudio beside a CPU-only torch.

PyPI's torchaudio 2.11 is a CUDA build: beside a CPU-only torch its extension dies with
`OSError: libc10_cuda.so` on import, although resampling, mel filters and all else written in Python
work without it. torchaudio has a path of its own for a missing extension; this takes it.
`encodec` and `dac` import torchaudio too, so call this before either.
"""

import sys
import types

import torch


def prepare_torchaudio() -> None:
    """Make `import torchaudio` work on any torch. Does nothing where torch has CUDA."""
    if torch.version.cuda is not None or "torchaudio" in sys.modules:
        return
    stand_in = types.ModuleType("torchaudio._extension")
    stand_in.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_RIR_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _check_cuda_version=lambda: None,
        fail_if_no_align=_unavailable,
        fail_if_no_rir=_unavailable,
    )
    sys.modules["torchaudio._extension"] = stand_in


def _unavailable(function: object) -> object:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(f"{function} needs torchaudio's compiled extension, which this torch cannot load")

    return refuse
