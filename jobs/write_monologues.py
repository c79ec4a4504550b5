"""Write scripts of one speaker, for `build_dialogues scripts=FILE`: all asks of the turns, lines of text."""

import argparse
import json
from pathlib import Path

from paluku.corpus.monologues import monologues
from paluku.corpus.turns import read_intents
from paluku.errors import exits_cleanly
from paluku.tokens.texts import lines_of


@exits_cleanly
def main() -> None:
    """Parse, write, and say how many there are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="JSONL file to write")
    parser.add_argument("--turns", type=Path, action="append", help="TSV or folder; else the shipped Telugu")
    parser.add_argument("--text", type=Path, action="append", default=[], help="one sentence a line; UTF-8")
    parser.add_argument("--licence", default="unknown", help="of the text, as SPDX writes it")
    parser.add_argument("--length", type=_count, default=6, help="sentences to a script")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    lines = [line for path in asked.text for line in lines_of(path)]
    scripts = list(monologues(read_intents(asked.turns), lines, asked.length, asked.licence, asked.seed))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text("".join(script.model_dump_json() + "\n" for script in scripts), encoding="utf-8")
    sentences = sum(len(script.turns) for script in scripts)
    print(json.dumps({"scripts": str(asked.out), "count": len(scripts), "sentences": sentences}))


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of sentences; give 1 or more")
    return int(text)


if __name__ == "__main__":
    main()
