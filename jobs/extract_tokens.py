"""Encode dialogues, or utterances, with a trained codec, with Ray Data: `CONFIG.yaml [key=value ...]`.

Started again after a stop of any kind it continues.
"""

import json
import os

from paluku.config import command_line, load
from paluku.errors import exits_cleanly


@exits_cleanly
def main() -> None:
    """Parse, encode, and say what there is now."""
    arguments = command_line(__doc__ or "", extra=[("--tracking-uri", "an MLflow server to log to")])
    import ray

    from paluku.cluster.report import show_manifests
    from paluku.cluster.tokens import ExtractConfig, extract
    from paluku.log import to_stderr
    from paluku.registry.results import log_corpus

    to_stderr()
    config = load(ExtractConfig, arguments.config, arguments.overrides)
    ray.init(address="auto" if "RAY_ADDRESS" in os.environ else None)
    manifest, hours_per_minute = extract(config)
    ray.shutdown()  # else it may say something of a killed worker after our last line
    show_manifests({"tokens": manifest})
    if arguments.tracking_uri:
        log_corpus(arguments.tracking_uri, config, manifest, config.out)
    said = {"tokens": config.out, "hash": manifest.hash, "parents": manifest.parents}
    print(json.dumps({**said, "hours": manifest.hours, "hours_per_minute": hours_per_minute}))


if __name__ == "__main__":
    main()
