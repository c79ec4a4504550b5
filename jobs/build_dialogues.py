"""Build two-channel dialogues from text turns and voices with Ray Data: `CONFIG.yaml [key=value ...]`.

`--dry-run` prints the plan and writes nothing. Started again after a stop of any kind it continues.
"""

import json
import os
import sys

from jobs.voices import find_hts_voice
from paluku.config import command_line, load
from paluku.corpus.dialogues.plans import DialoguesConfig
from paluku.errors import exits_cleanly

DRY_RUN = "--dry-run"


@exits_cleanly
def main() -> None:
    """Parse, build, and say what there is now."""
    arguments = [argument for argument in sys.argv[1:] if argument != DRY_RUN]
    asked = command_line(__doc__ or "", arguments, [("--tracking-uri", "an MLflow server to log to")])
    config = load(DialoguesConfig, asked.config, asked.overrides)
    find_hts_voice()  # before Ray starts, whose processes inherit what it sets
    import ray

    from paluku.cluster.dialogues import build, plan, show_plan
    from paluku.cluster.report import show_manifests
    from paluku.log import to_stderr
    from paluku.registry.results import log_corpus

    to_stderr()
    if DRY_RUN in sys.argv[1:]:
        planned = plan(config)
        show_plan(config, planned)
        shards = {"shards": len(planned.shards), "shards_done": planned.shards_done}
        print(json.dumps({"out": config.out, "dialogues": config.dialogues, **shards}))
        return
    ray.init(address="auto" if "RAY_ADDRESS" in os.environ else None)
    manifest = build(config)
    show_manifests({"dialogues": manifest})
    if asked.tracking_uri:
        log_corpus(asked.tracking_uri, config, manifest, config.out)
    hours = round(sum(manifest.hours.values()), 3)
    print(json.dumps({"dialogues": config.out, "dialogues_hash": manifest.hash, "hours": hours}))


if __name__ == "__main__":
    main()
