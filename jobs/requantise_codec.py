"""Fit our quantizer to a trained codec: `CONFIG.yaml [key=value ...] [placement.key=value ...]`."""

import json

from paluku.config import command_line, load, resolve, split_section
from paluku.errors import exits_cleanly


@exits_cleanly
def main() -> None:
    """Parse, check what can be checked here, run on the cluster."""
    arguments = command_line(__doc__ or "")
    from paluku.cluster.train import Placement, train
    from paluku.corpus.shards import ShardSet
    from paluku.log import to_stderr
    from paluku.registry.tracking import Data
    from paluku.training import requantise

    to_stderr()
    placed, overrides = split_section(arguments.overrides, "placement")
    config = load(requantise.RequantiseConfig, arguments.config, overrides)
    placement = resolve(Placement, {"experiment": "codec", **placed, "workers": 1}, "placement")
    corpus = ShardSet(config.corpus, "utterances", "train")
    corpus.verify()
    requantise.networks(config)  # here too: it may have to be fetched, or may not fit
    data = Data("utterances", corpus.manifest.hash, config.corpus)
    trained = train(requantise.run, config, config.out, placement, data)
    print(json.dumps({"codec": str(trained.folder), "run_id": trained.run_id, "hash": trained.hash}))


if __name__ == "__main__":
    main()
