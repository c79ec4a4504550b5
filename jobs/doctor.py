"""Is this machine fit to train and serve, and does a server answer? Exit code 1 when a check fails."""

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path

from paluku.errors import exits_cleanly

ROOT = Path(__file__).resolve().parent.parent


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m jobs.doctor", description=__doc__)
    parser.add_argument("--url", help="a running server to ask too, as http://127.0.0.1:8000")
    parser.add_argument("--key", help="bearer key for it; by default what PALUKU_KEY holds")
    parser.add_argument(
        "--bundle", default="default", help="whose stages are stepped: a folder, or `default`"
    )
    parser.add_argument("--json", action="store_true", help="print all findings as one JSON line, no table")
    return parser.parse_args()


@exits_cleanly
def main() -> None:
    """Check, show, count."""
    arguments = _arguments()
    from paluku.serving.doctor.examination import examined, show
    from paluku.serving.doctor.finding import exit_code

    key = arguments.key or os.environ.get("PALUKU_KEY")
    findings = list(examined(ROOT, arguments.bundle, arguments.url, key))
    counts = Counter(finding.verdict for finding in findings)
    summary = {"ok": counts["ok"], "warn": counts["warn"], "fail": counts["FAIL"]}
    if arguments.json:
        print(json.dumps({**summary, "findings": [finding.model_dump() for finding in findings]}))
    else:
        show(findings)
        print(json.dumps(summary))
    sys.exit(exit_code(findings))


if __name__ == "__main__":
    main()
