"""Build a corpus of utterances with Ray Data: `CONFIG.yaml [key=value ...]`.

`--dry-run` prints the plan; it writes and fetches nothing. Started again after a stop of any kind a build
continues.
"""

import json
import os
import sys

from jobs.voices import find_hts_voice
from paluku.config import command_line, load
from paluku.corpus.config import CorpusConfig
from paluku.errors import exits_cleanly

DRY_RUN = "--dry-run"


@exits_cleanly
def main() -> None:
    """Parse, build, and say what there is now."""
    arguments = [argument for argument in sys.argv[1:] if argument != DRY_RUN]
    asked = command_line(__doc__ or "", arguments, [("--tracking-uri", "an MLflow server to log to")])
    config = load(CorpusConfig, asked.config, asked.overrides)
    find_hts_voice()  # before Ray starts, whose processes inherit what it sets
    import ray

    from paluku.cluster.corpus import build, plan
    from paluku.cluster.report import show_manifests, show_plan
    from paluku.log import to_stderr
    from paluku.registry.results import log_corpus

    to_stderr()
    if DRY_RUN in sys.argv[1:]:
        planned = plan(config)
        show_plan(config, planned)
        listing = planned.listing
        done = {"parts": len(listing.parts), "parts_done": planned.parts_done}
        to_fetch = [what for _, what in planned.to_fetch]
        print(json.dumps({"out": config.out, "items": listing.items, **done, "to_fetch": to_fetch}))
        return
    ray.init(address="auto" if "RAY_ADDRESS" in os.environ else None)
    manifest = build(config)
    ray.shutdown()  # else it may say something of a killed worker after our last line
    show_manifests({"utterances": manifest})
    if asked.tracking_uri:
        log_corpus(asked.tracking_uri, config, manifest, config.out)
    print(json.dumps({"utterances": config.out, "utterances_hash": manifest.hash}))


if __name__ == "__main__":
    main()
