"""Encode dialogues with a trained codec, with Ray Data: `CONFIG.yaml [key=value ...]`."""

import json
import os

from paluku.config import command_line, load
from paluku.errors import exits_cleanly


@exits_cleanly
def main() -> None:
    """Parse, encode, and say what there is now."""
    arguments = command_line(__doc__ or "")
    import ray

    from paluku.cluster.report import show_manifests
    from paluku.cluster.tokens import ExtractConfig, extract

    config = load(ExtractConfig, arguments.config, arguments.overrides)
    ray.init(address="auto" if "RAY_ADDRESS" in os.environ else None)
    manifest = extract(config)
    show_manifests({"tokens": manifest})
    print(json.dumps({"tokens": str(config.out), "hash": manifest.hash, "parents": manifest.parents}))


if __name__ == "__main__":
    main()
