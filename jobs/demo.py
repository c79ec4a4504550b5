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

from jobs.report import write
from jobs.stack import Stack, recordings
from jobs.submit import ROOT
from paluku.client.record import Report
from paluku.corpus.demo import Conversation, demo_conversation, demo_question
from paluku.errors import EvaluationError, ServiceError, exits_cleanly
from paluku.evals.validation import Sources, Talk, served_metrics
from paluku.registry.artefact import read_card
from paluku.registry.bundle import open_bundle
from paluku.registry.codecs import shipped_codec
from paluku.registry.models import shipped_s2s

HOME = ROOT / ".paluku"
CONFIGS = "jobs/configs"
# One after another, each at another phase between its frames and the server's ticks: a single session
# keeps one phase, and its latency is that phase's luck.
SESSIONS = 4
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
        with stage("converse"):
            conversation = demo_conversation(HOME / "conversation.wav")
            talk = stream(stack, conversation.path, HOME / "conversation.reply.wav", 1)
        with stage("stream"):
            question = demo_question(speech, HOME / "question.wav")
            report = stream(stack, question, HOME / "reply.wav", SESSIONS)
        with stage("report"):
            replied = HOME / "conversation.reply.wav", talk["transcript"]
            sources = Sources(
                open_bundle("default"),
                comparison=HOME / "bundles" / "champion.judged",
                codec=HOME / "codec",
                talks=[Talk("Conversation", conversation.path, *replied)],
                stream=report,
                metrics=served_metrics(stack.url),
            )
            write(sources, HOME / "report.html", stack.mlflow.uri, "make demo")
        show(report, talk, conversation)


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
        paths = [f"dialogues={dialogues}", f"codec={codec}", f"out={tokens}", "overwrite=true"]
        stack.job("extract_tokens", f"{CONFIGS}/extract_tokens.demo.yaml", *paths)
    with stage("S2S training"):
        s2s, placed = HOME / "s2s", stack.train_placement()
        stack.job("train_s2s", f"{CONFIGS}/train_s2s.demo.yaml", f"tokens={tokens}", f"out={s2s}", *placed)
    with stage("registry"):
        # A minute's training shows that the path works; what converses is the shipped model.
        judged = [f"dialogues={dialogues}", "split=train", "cases=4", "ticks=50", "recognises=false"]
        judged += ["force=true", "reason=four dialogues are too few to refuse the shipped model"]
        for alias, model, how in (("candidate", s2s / "final", []), ("champion", shipped_s2s(), judged)):
            parts = [f"codec={codec}", f"s2s={model}", f"out={HOME / 'bundles' / alias}", f"alias={alias}"]
            stack.job("promote", f"{CONFIGS}/promote.yaml", *parts, f"tracking_uri={stack.mlflow.uri}", *how)


def judge_codec(corpus: Path, split: str) -> None:
    """The shipped codec on a few clips.

    Real speakers of the test split it has never heard; synthetic voices are all in the train split.
    """
    asked = ["--split", split, "--clips", "4", "--samples", "2", "--no-recogniser", "--no-baselines"]
    where = ["--data", str(corpus), "--out", str(HOME / "codec")]
    command = [sys.executable, "-m", "jobs.evaluate_codec", "default", *where, *asked]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False, cwd=ROOT).returncode:
        raise EvaluationError("the codec could not be judged; the line above says why")


def stream(stack: Stack, speech: Path, reply: Path, sessions: int) -> dict[str, Any]:
    """Speak a file to the endpoint in real time, with the client's own command line."""
    asked = ["--url", stack.websocket_url, "--sessions", str(sessions), "--tail", "4", "--json"]
    command = [sys.executable, "-m", "paluku.client", str(speech), "--out", str(reply), *asked]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise ServiceError(f"the client ended with exit code {done.returncode}; its own line above says why")
    return json.loads(done.stdout.splitlines()[-1])


def show(report: dict[str, Any], talk: dict[str, Any], conversation: Conversation) -> None:
    """The table a person wants, and the same as JSON."""
    reaction = report["reaction"]
    runs = {"s2s": read_card(HOME / "s2s" / "final").run_id}
    table = Table(title="paluku demo", show_header=False)
    rows = {
        "reaction latency": "mean {mean_ms} ms, deviation {std_ms} ms, p99 {p99_ms} ms".format(**reaction),
        "late frames": report["late_frames"],
        "frames": f"{report['frames_in']} in, {report['frames_out']} out",
        "tick": Report.model_validate(report).ticks(),
        "the user said": " / ".join(conversation.asks),
        "it understood": talk["user_transcript"] or "(nothing)",
        "it replied": talk["transcript"] or "(nothing)",
        **{f"{kind} run": run_id for kind, run_id in runs.items()},
        "the page": "http://127.0.0.1:8000/ once `make serve` runs",
        "MLflow": "http://127.0.0.1:5000/ with it, or with `make mlflow`",
        "the report": f"file://{HOME / 'report.html'}",
        "codec report": f"file://{HOME / 'codec' / 'report.html'}",
        "conversation": f"{conversation.path}, {HOME / 'conversation.reply.wav'}",
        "stages": ", ".join(f"{name} {took} s" for name, took in seconds.items()),
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    console.print(table)
    (HOME / "demo.json").write_text(
        json.dumps({"report": report, "talk": talk, "runs": runs, "seconds": seconds}, indent=1)
    )


if __name__ == "__main__":
    main()
