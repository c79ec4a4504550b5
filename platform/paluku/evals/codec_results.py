"""What a judgement leaves behind: report, numbers and sound in a folder; metrics for a tracking run."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from paluku import audio
from paluku.codec.port import Codec
from paluku.errors import EvaluationError, StorageError
from paluku.evals.codec_report import About, Findings, Row
from paluku.registry.artefact import CARD, read_card
from paluku.registry.codecs import DEFAULT, PUBLISHED, SHIPPED

REPORT, NUMBERS, SAMPLES = "report.html", "rows.json", "samples"
# The keys of a row that the job prints; `rows.json` has whatever was measured.
PRINTED = ("name", "kbps", "language", "clips", "pesq", "stoi", "si_sdr_db", "visqol", "speaker_cosine")
PRINTED += ("rtf_encode", "rtf_decode")
# Become metrics, with the least of what is a number for each codebook.
MEASURES = (*PRINTED[4:], "mel_distance", "cer_romanised", "rtf_encode_batch", "rtf_decode_batch")
PER_CODEBOOK = ("share_used", "perplexity")
# Rates that codecs are compared at: a codec is judged at the most codebooks that fit each.
RATES_KBPS = (1.6, 3.2, 6.0)


# In a model card: the front matter's line.
LICENCE = re.compile(r"^licen[cs]e:[ \t]*(\S.*?)[ \t]*$", re.IGNORECASE | re.MULTILINE)
MODEL_CARD = "README.md"
UNSTATED = "see its model card"


def kbps_of(codec: Codec, depth: int) -> float:
    """What `depth` codebooks take: `log2(V)` bits each, every frame."""
    return depth * math.log2(codec.codebook_size) * codec.frame_rate_hz / 1000


def depths_of(codec: Codec, asked: Sequence[int]) -> tuple[int, ...]:
    """The numbers of codebooks to judge at, ascending; unless asked, the most for each of `RATES_KBPS`.

    Raises:
        EvaluationError: when the codec has not so many codebooks.
    """
    most = codec.num_codebooks
    if not asked:
        per_codebook = kbps_of(codec, 1)
        fitting = (min(most, int(rate / per_codebook + 1e-9)) for rate in RATES_KBPS)
        return tuple(sorted({max(1, depth) for depth in fitting}))
    if wrong := [depth for depth in asked if not 1 <= depth <= most]:
        raise EvaluationError(
            f"depth {wrong[0]} cannot be judged: the codec has {most} codebooks; give depths from 1 to {most}"
        )
    return tuple(sorted(set(asked)))


def folder_of(spec: str) -> Path | None:
    """Where a codec lies; None of a published one, also where a folder here has its name."""
    if spec in PUBLISHED:
        return None
    return SHIPPED if spec == DEFAULT else Path(spec)


def folder_name(spec: str) -> str:
    """Where results go unless asked: a name of its own for each codec, so that runs do not share a folder."""
    if spec in (DEFAULT, *PUBLISHED):
        return spec
    whole = Path(spec).resolve()
    return f"{_plain(whole.name)}-{hashlib.sha256(str(whole).encode()).hexdigest()[:8]}"


def hash_of(codec: Codec, folder: Path | None) -> str:
    """Names a codec: its folder's hash, else sha256 of its tensors' names and bytes; 16 hex digits.

    Raises:
        CheckpointError: when the folder holds another kind of model.
    """
    if folder is not None and (folder / CARD).is_file():
        return read_card(folder, "codec").hash
    sha = hashlib.sha256()
    if isinstance(codec, nn.Module):
        for name, tensor in sorted(codec.state_dict().items()):
            sha.update(f"{name}\0{tuple(tensor.shape)}\0".encode())
            sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


def licence_of(spec: str, folder: Path | None) -> str:
    """What weights are published under; of a folder, what its model card says in a `licence:` line."""
    if folder is None:
        return _published_licence(spec)
    card = folder / MODEL_CARD
    said = LICENCE.search(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None
    return said[1] if said else UNSTATED


def _published_licence(name: str) -> str:
    """Of the weights that `open_codec` opens by this name: its adapter is loaded already."""
    match name:
        case "encodec":
            from paluku.codec.encodec import PUBLISHED as WEIGHTS
        case "dac":
            from paluku.codec.dac import PUBLISHED as WEIGHTS
        case "mimi":
            from paluku.codec.mimi import KNOWN as WEIGHTS
        case _:
            return UNSTATED
    return ", ".join(dict.fromkeys(weights.licence for weights in WEIGHTS.values()))


def finite(value: Any) -> Any:
    """A row, or anything in it, as JSON can hold it: no number is null."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def printed(codec: str, rows: Sequence[Row]) -> str:
    """The one line of JSON that the job ends with."""
    shown = [{key: finite(row.get(key)) for key in PRINTED} for row in rows]
    return json.dumps({"codec": codec, "rows": shown}, ensure_ascii=False)


def metrics(codec: str, rows: Sequence[Row]) -> dict[str, float]:
    """`pesq_te_3.2` of the codec itself, `lyra/pesq_te_3.2` of the others; what is no number is left out.

    Of what each codebook has, the least: `perplexity_least_te_3.2`. A codec with a variable rate goes by the
    one it was asked for: what it gives differs from data to data, and runs are to compare.
    """
    found: dict[str, float] = {}
    for row in rows:
        values = {key: row.get(key) for key in MEASURES}
        values |= {f"{key}_least": min(row[key]) for key in PER_CODEBOOK if row.get(key)}
        kbps = row.get("nominal_kbps") or row["kbps"]
        group = "" if row["name"] == codec else f"{_plain(row['name'])}/"
        for key, value in values.items():
            if isinstance(value, int | float) and math.isfinite(value):
                found[f"{group}{key}_{_plain(row['language'])}_{kbps:.1f}"] = float(value)
    return found


def check_writable(folder: Path) -> None:
    """Find out before the hour of judging that nothing could be written.

    Raises:
        AudioError: when the folder cannot be made or written to.
    """
    audio.check_writable(folder / REPORT)


def write(folder: Path, page: str, about: About, findings: Findings) -> list[Path]:
    """The report, `rows.json`, and FLAC files, a folder a clip: what was written, the report first.

    Sound that an earlier run left here is taken away.

    Raises:
        StorageError: when the place cannot be written.
    """
    told = {key: getattr(about, key) for key in ("codec", "hash", "licence", "data", "command", "notes")}
    ignored = [each._asdict() for each in findings.ignored]
    numbers = {**told, "rows": findings.rows, "speakers": findings.speakers, "ignored": ignored}
    text = json.dumps(finite(numbers), ensure_ascii=False, indent=1)
    files = {Path(REPORT): page.encode(), Path(NUMBERS): text.encode()}
    for number, sample in enumerate(findings.samples):
        below = Path(SAMPLES) / f"{number:02d}_{_plain(sample.clip.language)}_{_plain(sample.clip.speaker)}"
        for name, wave in sample.takes.items():
            files[below / f"{_plain(name)}.flac"] = audio.to_flac(wave, sample.rate_hz)
    try:
        _clear(folder)
        return [_write(folder / path, data) for path, data in files.items()]
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written ({error}); free space or choose another --out"
        ) from error


def _clear(folder: Path) -> None:
    """Take away an earlier run's samples: files named as `write` and the job do. Others are somebody's."""
    if not (folder / NUMBERS).is_file():
        return
    samples = folder / SAMPLES
    for path in [*samples.glob("[0-9][0-9]*_*/*.flac"), *samples.glob("[0-9][0-9]*_spectrograms.png")]:
        path.unlink()
    for below in samples.glob("[0-9][0-9]*_*/"):
        if below.is_dir() and not any(below.iterdir()):
            below.rmdir()


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    return partial.replace(path)


def _plain(name: str) -> str:
    """Of a name, what a file and MLflow take everywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_.") or "unnamed"
