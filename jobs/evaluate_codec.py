"""Judge a codec on recordings, beside Opus, Lyra and EnCodec's cost: tables, a page to see and hear, JSON."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from paluku.corpus.shards import Split
from paluku.errors import exits_cleanly

OUT = Path(".paluku/evaluate_codec")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m jobs.evaluate_codec", description=__doc__)
    parser.add_argument(
        "codec", help="default (the shipped one), encodec, dac, mimi, or a checkpoint's folder"
    )
    parser.add_argument("--data", required=True, help="a folder of recordings or of built utterances")
    parser.add_argument("--depths", type=_numbers, default=(), help="codebooks: 8,16; else 1.6, 3.2, 6 kbps")
    parser.add_argument("--clips", type=_positive, default=40, help="so many, spread over speakers (40)")
    parser.add_argument("--split", choices=get_args(Split), default="test", help="of utterances (test)")
    parser.add_argument("--languages", type=_names, default=(), help="te,en; else all")
    parser.add_argument("--no-baselines", dest="with_baselines", action="store_false", help="the codec alone")
    parser.add_argument("--no-recogniser", dest="recognises", action="store_false", help="no character error")
    parser.add_argument("--samples", type=_positive, default=4, help="clips to hear in the report (4)")
    parser.add_argument("--workers", type=_positive, default=0, help="so many processes more judge")
    parser.add_argument("--out", type=Path, help=f"where to write; {OUT}/CODEC")
    parser.add_argument("--tracking-uri", help="an MLflow server to log to")
    parser.add_argument("--experiment", default="codec", help="in MLflow (codec)")
    return parser.parse_args(argv)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(_positive(name) for name in _names(text))


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


@exits_cleanly
def main() -> None:
    """Look for all that is needed, judge, write, log, and say it as JSON."""
    asked = arguments()
    from jobs.codec_judging import logged, shown
    from paluku.cluster.progress import Progress
    from paluku.evals import codec_report, codec_results, codec_run
    from paluku.registry.codecs import open_codec
    from paluku.registry.server import check_server

    if asked.tracking_uri:
        check_server(asked.tracking_uri)
    out = asked.out or OUT / codec_results.folder_name(asked.codec)
    codec_results.check_writable(out)
    fields = codec_run.Evaluation.model_fields
    settings = codec_run.Evaluation(**{key: given for key, given in vars(asked).items() if key in fields})
    prepared = codec_run.prepare(open_codec(asked.codec), settings)
    command = shlex.join(["python", "-m", "jobs.evaluate_codec", *sys.argv[1:]])
    with Progress("judged clips", prepared.steps) as progress:
        about, findings = codec_run.judge_all(prepared, command, lambda: progress.advance(""))
    page = codec_report.page(about, prepared.chosen, findings)
    written = codec_results.write(out, page, about, findings)
    shown(about.codec, findings.rows, out)
    if asked.tracking_uri:
        logged(asked.tracking_uri, asked.experiment, prepared, about, findings, written)
    print(codec_results.printed(about.codec, findings.rows))


if __name__ == "__main__":
    main()
