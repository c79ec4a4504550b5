"""Put the reply voices' vectors into a speakers model: `MODEL DIALOGUES --out FOLDER`.

A voice's vector is the mean over the replies of some training dialogues; those of the test split tell how
near recordings are to the right voice and to the others.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from paluku.errors import AudioError, EvaluationError, exits_cleanly, one_line

if TYPE_CHECKING:
    from torch import Tensor

    from paluku.corpus.shards import ShardSet
    from paluku.speakers.encoder import SpeakerEncoder


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="default, or a folder that jobs/train_speakers.py left")
    parser.add_argument("dialogues", type=Path, help="folder that jobs/build_dialogues.py made")
    parser.add_argument("--out", type=Path, required=True, help="where the model with the voices is written")
    parser.add_argument("--each", type=int, default=40, help="dialogues of each voice (default: 40)")
    return parser.parse_args()


@exits_cleanly
def main() -> None:
    """Hear the replies, compare held-out replies with the voices, write the model."""
    arguments = _arguments()
    from paluku.corpus.shards import ShardSet
    from paluku.evals.verification import voice_cosines
    from paluku.registry.speakers import enrolled, model_folder, open_speakers, with_voices

    folder = model_folder(arguments.model)
    encoder = open_speakers(arguments.model).encoder
    train, test = (ShardSet(arguments.dialogues.resolve(), "dialogues", split) for split in ("train", "test"))
    heard = defaultdict(list)
    for voice, vector in _vectors(encoder, train, arguments.each):
        heard[voice].append(vector)
    voices = {name: enrolled(vectors) for name, vectors in sorted(heard.items())}
    known = {name: vector.numpy() for name, vector in voices.items()}
    held_out = [(name, vector.numpy()) for name, vector in _vectors(encoder, test, arguments.each)]
    if strange := sorted({name for name, _ in held_out} - known.keys()):
        raise EvaluationError(
            f"{arguments.dialogues}: no training dialogue has enough speech of {', '.join(strange)}; "
            "build more dialogues"
        )
    between = {one: {two: round(float(known[one] @ known[two]), 3) for two in known} for one in known}
    found = {name: round(value, 4) for name, value in voice_cosines(known, held_out)._asdict().items()}
    card = with_voices(folder, voices, arguments.out.resolve())
    print(
        json.dumps({"speakers": str(arguments.out), "hash": card.hash, "cosines": between, "held_out": found})
    )


def _vectors(encoder: "SpeakerEncoder", dialogues: "ShardSet", each: int) -> Iterator[tuple[str, "Tensor"]]:
    """Voice and vector of every reply with enough speech; the others are named on stderr."""
    from paluku.corpus.dialogues.replies import replies
    from paluku.registry.speakers import speaker_vector

    for reply in replies(dialogues, each):
        try:
            vector = speaker_vector(encoder, reply.wave, reply.rate_hz, f"a reply of {reply.voice}")
        except AudioError as error:
            print(f"left out: {one_line(error)}", file=sys.stderr)
        else:
            yield reply.voice, vector


if __name__ == "__main__":
    main()
