"""Train a codec under Ray Train: `CONFIG.yaml [key=value ...] [placement.key=value ...] [--from WEIGHTS]`.

`--from encodec` fine-tunes EnCodec's published weights (with jobs/configs/train_codec.encodec.yaml),
`--from lyra` begins with Lyra V2's networks (train_codec.yaml); a path, with a model folder's weights.
"""

import json
from pathlib import Path

from paluku.config import command_line, load, resolve, split_section
from paluku.errors import exits_cleanly


@exits_cleanly
def main() -> None:
    """Parse, check what can be checked here, run on the cluster."""
    arguments = command_line(
        __doc__ or "", extra=[("--from", "weights to begin with: encodec, lyra, a file, a folder")]
    )
    from paluku.cluster.train import Placement, train
    from paluku.corpus.shards import ShardSet
    from paluku.log import to_stderr
    from paluku.registry.codecs import BEGINNINGS, beginning
    from paluku.registry.tracking import Data
    from paluku.training import codec_loop

    to_stderr()
    placed, overrides = split_section(arguments.overrides, "placement")
    if (weights := getattr(arguments, "from")) is not None:
        found = weights if weights in BEGINNINGS else Path(weights).resolve()
        overrides = [*overrides, f"begin_from={found}"]
    config = load(codec_loop.CodecTrainingConfig, arguments.config, overrides)
    placement = resolve(Placement, {"experiment": "codec", **placed}, "placement")
    corpus = ShardSet(config.corpus, "utterances", "train")
    corpus.verify()
    if config.begin_from is not None:
        beginning(config.begin_from, config.model)  # here too: it may have to be fetched, or may not fit
    data = Data("utterances", corpus.manifest.hash, config.corpus)
    trained = train(codec_loop.run, config, config.out, placement, data)
    print(json.dumps({"codec": str(trained.folder), "run_id": trained.run_id, "hash": trained.hash}))


if __name__ == "__main__":
    main()
