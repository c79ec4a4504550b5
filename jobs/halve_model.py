"""Write a model folder's weights in half the bytes (float16), as a model of its own: `MODEL OUT`."""

import argparse
import json
from pathlib import Path

from paluku.errors import exits_cleanly


@exits_cleanly
def main() -> None:
    """Parse, halve, and say what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="folder of a codec, an S2S model or a speaker encoder")
    parser.add_argument("out", type=Path, help="folder to write")
    asked = parser.parse_args()
    from paluku.registry.artefact import WEIGHTS, halve

    card = halve(asked.model, asked.out)
    megabytes = {name: (folder / WEIGHTS).stat().st_size / 1e6 for name, folder in vars(asked).items()}
    print(json.dumps({"out": str(asked.out), "hash": card.hash, "parents": card.parents, "mb": megabytes}))


if __name__ == "__main__":
    main()
