"""What a comparison of two models leaves behind: reports, sound and pictures in a folder, a run's numbers."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from paluku import audio
from paluku.evals import s2s_report, s2s_results, validation, validation_report
from paluku.evals.codec import RATE_HZ
from paluku.evals.gates import Verdict
from paluku.evals.rivals import Rival
from paluku.evals.s2s_summary import finite
from paluku.registry.tracking import MlflowReporter
from paluku.training.pictures import spectrograms

REPORT = "report.html"


def write(out: Path, rivals: Mapping[str, Rival], verdicts: Sequence[Verdict], command: str) -> list[Path]:
    """Reports, sound and `comparison.json` below a folder; the validation report is the first."""
    files: list[Path] = []
    _sweep(out)
    for who, each in rivals.items():
        about = s2s_results.about(each.bundle, each.prepared, command)
        files += s2s_results.write(out / who, s2s_report.page(about, each.findings), about, each.findings)
        for number, (clip, waves) in enumerate(each.waves.items()):
            name = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{number:02d}_{clip}")
            files += _sound(out / validation.CLIPS / name, who, waves)
    own = rivals[validation.CANDIDATE]
    told = {
        "verdicts": [each._asdict() for each in verdicts],
        "numbers": {
            w: {k: finite(v) for k, v in each.measured.numbers.items()} for w, each in rivals.items()
        },
        "codec_rows": [{**each.codec_row.model_dump(), "name": who} for who, each in rivals.items()],
        "ticks_ms": {who: each.ticks_ms.round(3).tolist() for who, each in rivals.items()},
        "data_hash": own.prepared.chosen.data_hash,
    }
    (out / validation.COMPARISON).write_text(json.dumps(told), encoding="utf-8")
    found = validation.gather(validation.Sources(Path(own.prepared.asked.bundle), comparison=out))
    (out / REPORT).write_text(validation_report.page(found, command), encoding="utf-8")
    return [out / REPORT, out / validation.COMPARISON, *dict.fromkeys(files)]


def log(run: MlflowReporter, out: Path, files: Sequence[Path], rivals: Mapping[str, Rival]) -> None:
    """Numbers of both as `candidate/NAME`, `champion/NAME`; every file, named as it lies below `out`."""
    every = {
        f"{who}/{key}": value for who, each in rivals.items() for key, value in each.measured.numbers.items()
    }
    run.metrics(
        0, {key: float(known) for key, value in every.items() if (known := finite(value)) is not None}
    )
    for path in files:
        run.artifact(path, "/".join(path.parent.relative_to(out).parts))


def _sweep(out: Path) -> None:
    """Sound of an earlier comparison, perhaps of other dialogues, which would be taken for this one's."""
    clips = list((out / validation.CLIPS).glob("[0-9][0-9]_*"))
    earlier = [path for clip in clips for path in clip.glob("*.*")]
    earlier += (out / validation.CHAMPION / s2s_results.SAMPLES).glob("[0-9][0-9]_*.flac")
    for path in earlier:
        path.unlink()
    for clip in clips:
        clip.rmdir()


def _sound(folder: Path, who: str, waves: Mapping[str, np.ndarray]) -> list[Path]:
    takes = {"original" if name == "original" else who: wave for name, wave in waves.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, wave in takes.items():
        (folder / f"{name}.flac").write_bytes(audio.to_flac(wave, RATE_HZ))
    spectrograms(folder / f"{who}_spectrograms.png", takes, RATE_HZ)
    return [*(folder / f"{name}.flac" for name in takes), folder / f"{who}_spectrograms.png"]
