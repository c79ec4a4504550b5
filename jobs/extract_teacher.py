"""What Whisper's encoder hears in a corpus, for a codec to learn from: `CONFIG.yaml [key=value ...]`.

Started again after a stop of any kind it continues.
"""

import json
import os

from paluku.config import command_line, load
from paluku.errors import exits_cleanly


@exits_cleanly
def main() -> None:
    """Parse, hear, and say what there is now."""
    arguments = command_line(__doc__ or "")
    import ray

    from paluku.cluster.report import show_manifests
    from paluku.cluster.teacher import TeacherConfig, extract
    from paluku.log import to_stderr

    to_stderr()
    config = load(TeacherConfig, arguments.config, arguments.overrides)
    ray.init(address="auto" if "RAY_ADDRESS" in os.environ else None)
    manifest = extract(config)
    ray.shutdown()  # else it may say something of a killed worker after our last line
    show_manifests({"features": manifest})
    kept = manifest.breakdown["variance"]["kept"]
    said = {"features": config.out, "hash": manifest.hash, "parents": manifest.parents}
    print(json.dumps({**said, "dims": config.dims, "variance_kept": kept, **manifest.counts}))


if __name__ == "__main__":
    main()
