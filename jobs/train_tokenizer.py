"""Learn a text tokenizer into a file, from written turns, the transcripts of corpora, and other texts."""

import argparse
import json
from pathlib import Path

from paluku.errors import exits_cleanly


@exits_cleanly
def main() -> None:
    """Parse, learn, write, and say how long its tokens are."""
    asked = arguments()
    from paluku.corpus.turns import read_intents
    from paluku.tokens.merges import learned
    from paluku.tokens.texts import lines_of, trained_on, transcripts

    intents = () if asked.no_turns else read_intents(asked.turns)
    texts = [text for intent in intents for text in trained_on(intent)]
    texts += [text for folder in asked.corpus for text in transcripts(folder)]
    texts += [line for path in asked.text for line in lines_of(path)]
    tokenizer = learned(texts, asked.vocab_size, asked.block)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(tokenizer.to_json() + "\n", encoding="utf-8")
    tokens = sum(len(tokenizer.encode(text)) for text in texts)
    said = {
        "tokenizer": str(asked.out),
        "digest": tokenizer.digest(),
        "vocab_size": tokenizer.vocab_size,
        "characters_per_token": round(sum(map(len, texts)) / tokens, 3),
        "tokens_per_word": round(tokens / sum(len(text.split()) for text in texts), 3),
    }
    print(json.dumps(said))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("--turns", type=Path, action="append", help="TSV or folder; else the shipped Telugu")
    parser.add_argument("--no-turns", action="store_true", help="learn from --corpus and --text alone")
    parser.add_argument("--corpus", action="append", default=[], help="utterances: transcripts of train")
    parser.add_argument("--text", type=Path, action="append", default=[], help="one sentence a line; UTF-8")
    parser.add_argument("--vocab-size", type=int, default=1024, help="ids, PAD and the 256 bytes among them")
    parser.add_argument(
        "--block", type=block, default="0C00-0C7F", help="the script's code points (Telugu's)"
    )
    return parser.parse_args()


def block(text: str) -> tuple[int, int]:
    """`0D00-0D7F` as its first and last code point."""
    first, dash, last = text.partition("-")
    try:
        codes = int(first, 16), int(last, 16)
    except ValueError:
        codes = 0, 0
    if not dash or not 0x80 <= codes[0] <= codes[1] <= 0x10FFFF:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIRST-LAST, such as 0D00-0D7F, above ASCII")
    return codes


if __name__ == "__main__":
    main()
