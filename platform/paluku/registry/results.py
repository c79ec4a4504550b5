"""Results of work that trains nothing, as runs: what a corpus holds, what a serving measurement found."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ConfigDict

from paluku.config import Config
from paluku.corpus.shards import SPLITS, Manifest, Split
from paluku.registry.tracking import Data, log_finished, log_steps

RESULTS = "results.json"


class Given(Config):
    """What a command line asked for, whatever that is."""

    model_config = ConfigDict(extra="allow", frozen=True)


def log_serving(
    tracking_uri: str,
    what: str,
    asked: Mapping[str, Any],
    found: Sequence[Mapping[str, Any]],
    *,
    step_key: str = "",
    data: Data | None = None,
) -> None:
    """One measurement of a service (`bench_serve`, `soak`, `chaos`) as a run in `serving`.

    Every number in a line of `found` becomes a metric, named by its path (`reaction_ms.p99`); `step_key`
    names the line's own number that is the step (`sessions`: a curve over them), else lines are counted. All
    of it is the artifact `results.json` too. A server that is gone by now is a warning: the numbers were
    printed.
    """
    given, tags = Given.model_validate(dict(asked)), {"measured": what}
    steps = [
        (int(line[step_key]) if step_key else number, dict(flat_numbers(line)))
        for number, line in enumerate(found)
    ]
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / RESULTS
        path.write_text(json.dumps(list(found), indent=1, default=str), encoding="utf-8")
        otherwise = f"{what} is not logged"
        log_steps(tracking_uri, "serving", given, data, what, tags, steps, [path], otherwise)


def log_corpus(tracking_uri: str, config: Config, manifest: Manifest, folder: Path | str) -> None:
    """What a data job has built as a run in `corpus`: rows, hours, rejects; hashes and licences as tags.

    A server that is gone by now is a warning: the manifest lies with the data.
    """
    tags = {"kind": manifest.kind, "data_hash": manifest.hash}
    tags |= {f"{part}_hash": digest for part, digest in manifest.parents.items()}
    tags |= {f"licence/{source}": licence for source, licence in manifest.licences.items()}
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "manifest.json"
        path.write_text(manifest.to_json(), encoding="utf-8")
        data = Data(manifest.kind, manifest.hash, Path(folder))
        name = f"{manifest.kind} {manifest.hash}"
        log_finished(tracking_uri, "corpus", config, data, name, tags, corpus_numbers(manifest), [path])


def corpus_numbers(manifest: Manifest) -> dict[str, float]:
    """`rows`, `hours`, `rejects`, and their parts: `hours/train`, `hours/language/te`, `rejects/short`."""
    splits: list[Split] = [split for split in SPLITS if manifest.rows(split)]
    breakdown = {
        f"hours/{name}/{key}": hours
        for name, of_one in manifest.breakdown.items()
        for key, hours in of_one.items()
    }
    found = {
        "rows": manifest.rows(),
        "shards": len(manifest.shards),
        "num_bytes": sum(shard.num_bytes for shard in manifest.shards),
        "hours": sum(manifest.hours.values()),
        "rejects": sum(manifest.rejects.values()),
        **{f"rows/{split}": manifest.rows(split) for split in splits},
        **{f"hours/{split}": hours for split, hours in manifest.hours.items()},
        **breakdown,
        **{f"rejects/{reason}": count for reason, count in manifest.rejects.items()},
        **{f"counts/{name}": count for name, count in manifest.counts.items()},
    }
    return {_plain(key): float(value) for key, value in found.items()}


def flat_numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every finite number below a mapping, named by its path; lists and words are left out."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat_numbers(value, f"{prefix}{_plain(str(key))}.")
        elif isinstance(value, int | float) and math.isfinite(value):
            yield prefix + _plain(str(key)), float(value)


def _plain(name: str) -> str:
    """Of a name, what MLflow takes in a metric's."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-./ ") else "_" for c in name)
