"""One HTML page: what a model is, what was measured beside what, how it sounds, what it cannot do.

What jobs/promote.py, jobs/evaluate_s2s.py and jobs/evaluate_codec.py left is shown where it is given, as are
a stream's report and a running service's ticks.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

from paluku.errors import exits_cleanly
from paluku.evals.validation import KEY_VARIABLE, Sources, gather, served_metrics, streamed
from paluku.evals.validation_report import page
from paluku.registry.bundle import open_bundle, read_bundle
from paluku.registry.results import Given
from paluku.registry.tracking import log_finished

OUT = Path(".paluku/report/report.html")


@exits_cleanly
def main() -> None:
    """Gather, write, log, say where."""
    parser = argparse.ArgumentParser(prog="python -m jobs.report", description=__doc__)
    parser.add_argument("bundle", help="a bundle's folder, or default (the shipped one)")
    parser.add_argument("--comparison", type=Path, help="OUT.judged of jobs/promote.py")
    parser.add_argument("--s2s", type=Path, help="the --out of jobs/evaluate_s2s.py")
    parser.add_argument("--codec", type=Path, help="the --out of jobs/evaluate_codec.py")
    parser.add_argument("--stream", type=Path, help="what `python -m paluku.client --json` printed")
    parser.add_argument("--url", default="", help=f"a running service, for its ticks; key: {KEY_VARIABLE}")
    parser.add_argument("--out", type=Path, default=OUT, help=f"the page ({OUT})")
    parser.add_argument("--tracking-uri", default="", help="an MLflow server to log it to")
    asked = parser.parse_args()
    stream = streamed(asked.stream) if asked.stream else None
    folders = {key: getattr(asked, key) for key in ("comparison", "s2s", "codec")}
    metrics = served_metrics(asked.url) if asked.url else ""
    sources = Sources(open_bundle(asked.bundle), **folders, stream=stream, metrics=metrics)
    write(sources, asked.out, asked.tracking_uri, shlex.join(["python", "-m", "jobs.report", *sys.argv[1:]]))
    print(json.dumps({"report": str(asked.out.resolve())}))


def write(sources: Sources, out: Path, tracking_uri: str = "", command: str = "") -> Path:
    """The page, at `out`; logged in the experiment `s2s` where a server is given.

    Raises:
        CheckpointError, EvaluationError, AudioError: as `validation.gather`.
    """
    found = gather(sources)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(found, command), encoding="utf-8")
    if tracking_uri:
        parts = read_bundle(sources.bundle).model_dump(exclude={"schema_version"})
        tags = {f"{part}_hash": digest for part, digest in parts.items()}
        given = Given.model_validate({"bundle": str(sources.bundle), "command": command})
        column = next(iter(found.columns.values()), {})
        numbers = {key: float(value) for key, value in column.items() if value is not None}
        log_finished(tracking_uri, "s2s", given, None, f"report of {found.name}", tags, numbers, [out])
    return out


if __name__ == "__main__":
    main()
