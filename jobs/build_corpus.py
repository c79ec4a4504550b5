"""Build a corpus of utterances and dialogues with Ray Data: `CONFIG.yaml [key=value ...]`."""

import json
import os

from paluku.config import from_command_line
from paluku.corpus.config import CorpusConfig
from paluku.errors import exits_cleanly


@exits_cleanly
def main() -> None:
    """Parse, build, and say what there is now."""
    config = from_command_line(CorpusConfig, __doc__ or "")
    import ray

    from paluku.cluster.corpus import build
    from paluku.cluster.report import show_manifests

    ray.init(address="auto" if "RAY_ADDRESS" in os.environ else None)
    built = build(config)
    show_manifests({"utterances": built.utterances, "dialogues": built.dialogues})
    folders = {kind: str(config.out / kind) for kind in built._fields}
    hashes = {f"{kind}_hash": manifest.hash for kind, manifest in built._asdict().items()}
    print(json.dumps(folders | hashes))


if __name__ == "__main__":
    main()
