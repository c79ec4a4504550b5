"""The whole path on this machine: corpus, codec, tokens, S2S, registry, Serve, a real-time stream."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jobs.stack import Stack, recordings
from jobs.submit import ROOT
from paluku.corpus.demo import demo_question
from paluku.errors import EvaluationError, ServiceError, exits_cleanly
from paluku.registry.artefact import read_card
from paluku.registry.codecs import shipped_codec

HOME = ROOT / ".paluku"
CONFIGS = "jobs/configs"
# One after another, each at another phase between its frames and the server's ticks: a single session
# keeps one phase, and its latency is that phase's luck.
SESSIONS = 5
console = Console()
seconds: dict[str, float] = {}


@contextmanager
def stage(name: str) -> Iterator[None]:
    """A heading, and how long it took."""
    console.rule(f"[bold]{name}", align="left")
    began = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - began, 1)
    console.print(f"[green]{name}: {seconds[name]} s")


@exits_cleanly
def main() -> None:
    """Run every stage; end with the table of what was measured and where things are."""
    HOME.mkdir(exist_ok=True)
    speech = recordings()
    with ExitStack() as running:
        with stage("start Ray and MLflow"):
            stack = running.enter_context(Stack(HOME))
        run_path(stack, speech)
        with stage("deploy"):
            stack.deploy("models:/paluku@champion")
        with stage("stream"):
            report = stream(stack, demo_question(speech, HOME / "question.wav"))
        show(report, stack)


def run_path(stack: Stack, speech: Path | None) -> None:
    """Corpus to registry, each stage a job on the cluster."""
    with stage("corpus"):
        real = [f"recordings={speech}"] if speech else []
        utterances = [f"out={HOME / 'corpus' / 'utterances'}", "overwrite=true", *real]
        stack.job("build_corpus", f"{CONFIGS}/build_corpus.demo.yaml", *utterances)
    with stage("dialogues"):
        spoken = [f"out={HOME / 'corpus' / 'dialogues'}", "overwrite=true"]
        stack.job("build_dialogues", f"{CONFIGS}/build_dialogues.demo.yaml", *spoken)
    with stage("codec"):
        judge_codec(HOME / "corpus" / "utterances", "test" if speech else "train")
        codec = shipped_codec()
    with stage("tokens"):
        dialogues, tokens = HOME / "corpus" / "dialogues", HOME / "tokens"
        paths = [f"dialogues={dialogues}", f"codec={codec}", f"out={tokens}"]
        stack.job("extract_tokens", f"{CONFIGS}/extract_tokens.demo.yaml", *paths)
    with stage("S2S training"):
        s2s, placed = HOME / "s2s", stack.train_placement()
        stack.job("train_s2s", f"{CONFIGS}/train_s2s.demo.yaml", f"tokens={tokens}", f"out={s2s}", *placed)
    with stage("registry"):
        parts = [f"codec={codec}", f"s2s={s2s / 'final'}", f"out={HOME / 'bundle'}"]
        stack.job("promote", f"{CONFIGS}/promote.yaml", *parts, f"tracking_uri={stack.mlflow.uri}")


def judge_codec(corpus: Path, split: str) -> None:
    """The shipped codec on a few clips, beside Opus and Lyra where they are.

    Real speakers of the test split it has never heard; synthetic voices are all in the train split.
    """
    asked = ["--split", split, "--clips", "6", "--samples", "2", "--no-recogniser"]
    where = ["--data", str(corpus), "--out", str(HOME / "codec")]
    command = [sys.executable, "-m", "jobs.evaluate_codec", "default", *where, *asked]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False, cwd=ROOT).returncode:
        raise EvaluationError("the codec could not be judged; the line above says why")


def stream(stack: Stack, question: Path) -> dict[str, Any]:
    """Speak a file to the endpoint in real time, with the client's own command line."""
    sessions = ["--sessions", str(SESSIONS), "--tail", "4"]
    reply = ["--out", str(HOME / "reply.wav"), "--url", stack.websocket_url, *sessions, "--json"]
    command = [sys.executable, "-m", "paluku.client", str(question), *reply]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise ServiceError(f"the client ended with exit code {done.returncode}; its own line above says why")
    return json.loads(done.stdout.splitlines()[-1])


def show(report: dict[str, Any], stack: Stack) -> None:
    """The table a person wants, and the same as JSON."""
    reaction = report["reaction"]
    runs = {"s2s": read_card(HOME / "s2s" / "final").run_id}
    table = Table(title="paluku demo", show_header=False)
    rows = {
        "reaction latency": "mean {mean_ms} ms, deviation {std_ms} ms, p99 {p99_ms} ms".format(**reaction),
        "late frames": report["late_frames"],
        "frames": f"{report['frames_in']} in, {report['frames_out']} out",
        "tick": f"p50 {report['tick_p50_ms']:.1f} ms, p99 {report['tick_p99_ms']:.1f} ms",
        "transcript": report["transcript"] or "(none)",
        **{f"{kind} run": run_id for kind, run_id in runs.items()},
        "codec report": HOME / "codec" / "report.html",
        "question, reply": f"{HOME / 'question.wav'}, {HOME / 'reply.wav'}",
        "MLflow data": f"{stack.mlflow.folder} (`make serve` shows it at http://127.0.0.1:5000)",
        "stages": ", ".join(f"{name} {took} s" for name, took in seconds.items()),
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    console.print(table)
    (HOME / "demo.json").write_text(
        json.dumps({"report": report, "runs": runs, "seconds": seconds}, indent=1)
    )


if __name__ == "__main__":
    main()
