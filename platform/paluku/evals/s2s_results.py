"""What a judgement of an S2S model leaves behind: report, numbers and sound in a folder, a line of JSON."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paluku import audio
from paluku.errors import StorageError
from paluku.evals import s2s_summary
from paluku.evals.s2s_report import About
from paluku.evals.s2s_run import Bundle, Findings, Prepared
from paluku.evals.s2s_summary import Judged, Number, finite
from paluku.evals.s2s_turns import Exchange, Interjection

REPORT, NUMBERS, SAMPLES = "report.html", "numbers.json", "samples"


def check_writable(folder: Path) -> None:
    """Find out before the work that nothing could be written.

    Raises:
        AudioError: when the folder cannot be made or written to.
    """
    audio.check_writable(folder / REPORT)


def about(bundle: Bundle, prepared: Prepared, command: str) -> About:
    """What the page says of where its numbers come from; `command` is what a reader types to do so again."""
    parts, asked, sessions = bundle.parts, prepared.asked, prepared.sessions
    seconds = sum(case.seconds for case, _, _ in sessions)
    millions = sum(weight.numel() for weight in parts.model.parameters()) / 1e6
    shown = {
        "dialogues": f"{len(prepared.chosen.cases)} of {asked.split}",
        "conversations": f"{len(sessions)}, {seconds / 60:.1f} min",
        "users": str(len({case.user_voice for case, _, _ in sessions})),
        "parameters": f"{millions:.1f} million",
        "codebooks": f"{parts.codec.num_codebooks} of {parts.codec.codebook_size}",
        "listener's lag": f"{parts.lag_ms:.0f} ms",
        "seats": str(asked.batch),
        "seed": str(asked.seed),
        **{name.replace("_", " "): f"{value:g}" for name, value in asked.sampling},
    }
    return About(
        bundle=bundle.name,
        hashes=bundle.hashes,
        data=asked.dialogues,
        data_hash=prepared.chosen.data_hash,
        command=command,
        lag_ms=parts.lag_ms,
        samples=asked.samples,
        facts=shown,
    )


def printed(findings: Findings) -> dict[str, Any]:
    """What the job's last line says; those of the recorded replies stand below `reference`."""
    own = {key: _rounded(value) for key, value in findings.numbers.items()}
    if findings.reference_numbers:
        return own | {"reference": {key: _rounded(v) for key, v in findings.reference_numbers.items()}}
    return own


def metrics(findings: Findings) -> dict[str, float]:
    """For a tracking run: those that are numbers; of the recorded replies as `reference/NAME`."""
    groups = (("", findings.numbers), ("reference/", findings.reference_numbers))
    return {
        f"{group}{key}": float(known)
        for group, values in groups
        for key, value in values.items()
        if (known := finite(value)) is not None
    }


def write(folder: Path, page: str, about: About, findings: Findings) -> list[Path]:
    """The report, `numbers.json` and FLAC of user and reply, two channels: the paths, the report first.

    Raises:
        StorageError: when the place cannot be written.
    """
    told = {
        key: getattr(about, key) for key in ("bundle", "hashes", "data", "data_hash", "command", "lag_ms")
    }
    numbers = {
        **told,
        "numbers": printed(findings),
        "streams": [{**each._asdict(), "perplexity": each.perplexity} for each in findings.entropies],
        "styles": [
            {
                **row._asdict(),
                **{name: _plain(getattr(row, name)) for name in ("asked", "measured", "agrees")},
            }
            for row in s2s_summary.styles(findings.judged)
        ],
        "voices": s2s_summary.of_voices(findings.judged),
        "sessions": [_session(each) for each in findings.judged],
        "reference": [_session(each) for each in findings.reference],
        "notes": findings.notes,
    }
    files = {
        Path(REPORT): page.encode(),
        Path(NUMBERS): json.dumps(numbers, ensure_ascii=False, indent=1).encode(),
    }
    for number, each in enumerate(findings.judged[: about.samples]):
        case = each.held.case
        length = max(len(case.user), len(each.held.spoken.wave))
        both = [np.pad(wave, (0, length - len(wave))) for wave in (case.user, each.held.spoken.wave)]
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{number:02d}_{case.id}_{each.held.voice}_{each.held.style}")
        files[Path(SAMPLES) / f"{name}.flac"] = audio.to_flac(np.stack(both, axis=1), case.rate_hz)
    try:
        for path in (folder / SAMPLES).glob("[0-9][0-9]_*.flac"):
            path.unlink()  # an earlier run's
        return [_write(folder / path, data) for path, data in files.items()]
    except OSError as error:
        raise StorageError(f"{folder} cannot be written ({error}); choose another --out") from error


def _session(judged: Judged) -> dict[str, Any]:
    held, likeness = judged.held, judged.sounds.likeness
    return {
        "id": held.case.id,
        "voice": held.voice,
        "style": held.style,
        "user_voice": held.case.user_voice,
        "understood": held.understood,
        "cosines": {name: _rounded(value) for name, value in likeness.cosines.items()} if likeness else None,
        "exchanges": [
            _exchange(each) | {"cer_romanised": error, "manner": _plain(change) if change else None}
            for each, error, change in zip(
                held.exchanges, judged.sounds.errors, judged.sounds.changes, strict=True
            )
        ],
        "interjections": [_interjection(each) for each in held.interjections],
    }


def _exchange(each: Exchange) -> dict[str, Any]:
    told = {"asked": each.asked.text, "intent": each.asked.intent, "kind": each.asked.kind}
    told |= {"heard": each.heard, "said": each.said, "is_cut": each.is_cut, "is_right": each.is_right}
    times = {"start_s": each.start_s, "end_s": each.end_s, "gap_ms": each.gap_ms}
    fit = each.fit._asdict() if each.fit else None
    return told | {key: _rounded(value) for key, value in times.items()} | {"fit": fit}


def _interjection(each: Interjection) -> dict[str, Any]:
    return {
        key: _rounded(value) if isinstance(value, float) else value for key, value in each._asdict().items()
    }


def _plain(values: Any) -> Mapping[str, Number]:
    return {key: _rounded(value) for key, value in values._asdict().items()}


def _rounded(value: Number) -> Number:
    known = finite(value)
    return round(known, 4) if isinstance(known, float) else known


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    return partial.replace(path)
