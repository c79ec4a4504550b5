"""Equal error rate of a speaker encoder on speakers it never heard: `MODEL CORPUS`.

Resemblyzer answers for the same pairs, where it is installed. The last line of stdout is JSON.
"""

import argparse
import json
import sys
from pathlib import Path

from paluku.errors import exits_cleanly


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="default, or a folder that jobs/train_speakers.py left")
    parser.add_argument("corpus", type=Path, help="folder of utterances that jobs/build_corpus.py made")
    parser.add_argument("--split", default="test", choices=("dev", "test"))
    parser.add_argument("--pairs", type=int, default=500, help="of one speaker in each source (default: 500)")
    return parser.parse_args()


@exits_cleanly
def main() -> None:
    """Draw the pairs, ask both encoders."""
    arguments = _arguments()
    import numpy as np

    from paluku.corpus.shards import ShardSet
    from paluku.evals import sound
    from paluku.evals.verification import RATE_HZ, judge, recorded
    from paluku.registry.speakers import heard_by, open_speakers

    encoder = open_speakers(arguments.model).encoder
    recordings = recorded(
        ShardSet(arguments.corpus.resolve(), "utterances", arguments.split), arguments.pairs
    )
    counts = {"pairs": len(recordings.pairs.same), "same": int(np.sum(recordings.pairs.same))}
    results = {"paluku": judge(recordings, lambda wave: heard_by(encoder, wave, RATE_HZ).numpy())}
    if reason := sound.why_absent("speaker_cosine"):
        print(reason, file=sys.stderr)
    else:
        results["resemblyzer"] = judge(recordings, sound.speaker_embedding)
    rows = {name: {key: round(v, 4) for key, v in found._asdict().items()} for name, found in results.items()}
    print(json.dumps({"model": arguments.model, "speakers": recordings.speakers, **counts, **rows}))


if __name__ == "__main__":
    main()
