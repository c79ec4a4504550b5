"""Judge an S2S model: held-out users talk to it; measured is what it says, how it sounds, when it yields."""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from paluku.errors import exits_cleanly
from paluku.voices import STYLES, VOICES

OUT = Path(".paluku/evaluate_s2s")
SAMPLING = ("temperature", "top_k", "text_temperature", "text_top_k", "guidance")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m jobs.evaluate_s2s", description=__doc__)
    parser.add_argument("bundle", help="default (the shipped one), or a bundle's folder")
    parser.add_argument("--dialogues", required=True, help="a folder made by jobs/build_dialogues.py")
    parser.add_argument("--cases", type=int, default=32, help="dialogues to judge by (32)")
    parser.add_argument("--split", choices=("train", "dev", "test"), default="test", help="of them (test)")
    parser.add_argument("--batch", type=int, default=16, help="seats at once (16)")
    parser.add_argument("--voice", choices=(*VOICES, "sweep"), help="else that of each dialogue")
    parser.add_argument("--style", choices=(*STYLES, "sweep"), help="else that of each dialogue")
    parser.add_argument("--seed", type=int, default=0, help="of the choice, and of what is said (0)")
    parser.add_argument(
        "--reference", action="store_true", help="judge the recorded replies too, for a bound"
    )
    parser.add_argument("--no-recogniser", dest="recognises", action="store_false", help="no character error")
    parser.add_argument("--samples", type=int, default=6, help="conversations to hear in the report (6)")
    parser.add_argument("--temperature", type=float, default=0.8, help="of the codes (0.8)")
    parser.add_argument("--top-k", type=int, default=50, help="of the codes (50)")
    parser.add_argument("--text-temperature", type=float, default=0.7, help="of the text (0.7)")
    parser.add_argument("--text-top-k", type=int, default=25, help="of the text (25)")
    parser.add_argument("--guidance", type=float, default=1.0, help="how strongly voice and style count (1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the model (cpu)")
    parser.add_argument("--out", type=Path, default=OUT, help=f"where to write ({OUT})")
    parser.add_argument("--tracking-uri", help="an MLflow server to log to")
    parser.add_argument("--experiment", default="s2s", help="in MLflow (s2s)")
    return parser.parse_args(argv)


@exits_cleanly
def main() -> None:
    """Look for all that is needed, judge, write, log, and say it as JSON."""
    given = vars(arguments())
    from jobs.s2s_judging import logged, shown
    from paluku.cluster.progress import Progress
    from paluku.config import resolve
    from paluku.evals import s2s_report, s2s_results, s2s_run
    from paluku.registry.server import check_server

    fields = s2s_run.Evaluation.model_fields
    settings = {key: value for key, value in given.items() if key in fields}
    settings["sampling"] = {key: given[key] for key in SAMPLING}
    asked = resolve(s2s_run.Evaluation, settings, "the command line")
    if given["tracking_uri"]:
        check_server(given["tracking_uri"])
    s2s_results.check_writable(given["out"])
    bundle = s2s_run.opened(asked.bundle, given["device"])
    prepared = s2s_run.prepare(bundle.parts, asked)
    with Progress("steps", prepared.steps) as progress:
        findings = s2s_run.judge_all(prepared, lambda: progress.advance(""))
    command = shlex.join(["python", "-m", "jobs.evaluate_s2s", *sys.argv[1:]])
    about = s2s_results.about(bundle, prepared, command)
    written = s2s_results.write(given["out"], s2s_report.page(about, findings), about, findings)
    shown(about, findings, given["out"])
    if given["tracking_uri"]:
        logged(given["tracking_uri"], given["experiment"], asked, about, findings, written)
    print(json.dumps(s2s_results.printed(findings), ensure_ascii=False))


if __name__ == "__main__":
    main()
