"""Submit a job to a running cluster, from any folder: `python .../jobs/submit.py JOB CONFIG [key=value ...]`.

A thin front of `ray job submit` that knows the one runtime environment every job needs: this
repository as working directory, and the package as a module on the driver and every worker.
The cluster is the one at RAY_API_SERVER_ADDRESS. Exit code: the job's own.
"""

import http.client
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# These run on the user's machine.
NOT_JOBS = ("submit", "demo", "serve", "keys", "stand", "bench_serve", "bench_bundle", "bench_engine")
NOT_JOBS += ("bench_turns", "bench_vad", "chaos", "soak", "bench_corpus", "say", "check_turns")
NOT_JOBS += ("publish", "report", "doctor", "mlflow_server")

# What Ray's own command line says about packaging and following the log: not the job's words.
NOISE = re.compile(r"^\S+ \S+\s(INFO|SUCC|WARNING) \w+\.py:\d+|^Running entrypoint")
REPEATED = re.compile(r"^\S+ \S+\sERR cli\.py:\d+")  # from here on the log is printed a second time


def runtime_env() -> dict[str, object]:
    """What a job's driver and workers get."""
    return {
        "working_dir": str(ROOT),
        "py_modules": [str(ROOT / "platform" / "paluku")],
        "excludes": ["/tests", "/docs", "/.paluku"],
    }


def command(job: str, arguments: list[str], submission_id: str) -> list[str]:
    """The `ray job submit` command line."""
    ray = str(Path(sys.executable).with_name("ray"))
    return [
        *(ray, "job", "submit", "--submission-id", submission_id, "--log-color", "false"),
        *("--runtime-env-json", json.dumps(runtime_env())),
        *("--", "python", "-m", f"jobs.{job}", *arguments),
    ]


def submit(job: str, arguments: list[str], env: dict[str, str] | None = None) -> int:
    """Submit, show the job's own lines, and give its exit code (2 when there is no cluster)."""
    environment = {**os.environ, **(env or {})}
    address = environment.get("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265")
    if not _answers(address):
        print(
            f"error: no Ray cluster answers at {address}; set RAY_API_SERVER_ADDRESS to its dashboard",
            file=sys.stderr,
        )
        return 2
    submission_id = f"{job}-{uuid.uuid4().hex[:8]}"
    with subprocess.Popen(
        command(job, arguments, submission_id),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        _show(process)
    return process.returncode and _driver_exit_code(submission_id, environment, process.returncode)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=5):  # noqa: S310 (an address of the user's)
            return True
    except urllib.error.HTTPError:
        return True  # it is there; whether our token fits, `ray job submit` will say
    except (urllib.error.URLError, OSError, ValueError, http.client.HTTPException):
        return False


def _show(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    repeated = False
    for line in process.stdout:
        repeated = repeated or bool(REPEATED.match(line))
        if not repeated and not NOISE.match(line):
            print(line, end="", flush=True)


def _driver_exit_code(submission_id: str, env: dict[str, str], otherwise: int) -> int:
    """`ray job submit` exits 1 for every failure; the job's own code says whether the user can mend it."""
    ask = (
        "import sys; from ray.job_submission import JobSubmissionClient as C; "
        "print(C().get_job_info(sys.argv[1]).driver_exit_code)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", ask, submission_id], env=env, check=False, capture_output=True, text=True
    )
    last_word = answer.stdout.split()[-1:]
    return int(last_word[0]) if last_word and last_word[0].isdigit() else otherwise


def main() -> None:
    """Command line."""
    programs = (p for p in (ROOT / "jobs").glob("*.py") if "\ndef main(" in p.read_text(encoding="utf-8"))
    jobs = sorted(p.stem for p in programs if p.stem not in NOT_JOBS)
    if len(sys.argv) < 2 or sys.argv[1] not in jobs:
        print(f"error: name a job to submit, one of: {', '.join(jobs)}", file=sys.stderr)
        sys.exit(2)
    sys.exit(submit(sys.argv[1], sys.argv[2:]))


if __name__ == "__main__":
    main()
