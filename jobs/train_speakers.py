"""Train a speaker encoder under Ray Train: `CONFIG.yaml [key=value ...] [placement.key=value ...]`."""

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
    from paluku.training import speaker_loop

    to_stderr()
    placed, overrides = split_section(arguments.overrides, "placement")
    config = load(speaker_loop.SpeakerTrainingConfig, arguments.config, overrides)
    placement = resolve(Placement, {"experiment": "speakers", **placed}, "placement")
    corpus = ShardSet(config.corpus, "utterances", "train")
    corpus.verify()
    data = Data("utterances", corpus.manifest.hash, config.corpus)
    trained = train(speaker_loop.run, config, config.out, placement, data)
    print(json.dumps({"speakers": str(trained.folder), "run_id": trained.run_id, "hash": trained.hash}))


if __name__ == "__main__":
    main()
