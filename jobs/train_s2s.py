"""Train the S2S model under Ray Train: `CONFIG.yaml [key=value ...] [placement.key=value ...]`."""

import json

from paluku.config import command_line, load, resolve, split_section
from paluku.errors import exits_cleanly


@exits_cleanly
def main() -> None:
    """Parse, check what can be checked here, run on the cluster."""
    arguments = command_line(__doc__ or "")
    from paluku.cluster.train import Placement, train
    from paluku.corpus.shards import ShardSet
    from paluku.registry.tracking import Data
    from paluku.training import s2s_loop

    placed, overrides = split_section(arguments.overrides, "placement")
    config = load(s2s_loop.S2STrainingConfig, arguments.config, overrides)
    placement = resolve(Placement, {"experiment": "s2s", **placed}, "placement")
    tokens = ShardSet(config.tokens, "tokens", "train")
    tokens.verify()
    data = Data("tokens", tokens.manifest.hash, config.tokens)
    parents = {f"{kind}_hash": parent for kind, parent in tokens.manifest.parents.items()}
    trained = train(s2s_loop.run, config, config.out, placement, data, parents)
    print(json.dumps({"s2s": str(trained.folder), "run_id": trained.run_id, "hash": trained.hash}))


if __name__ == "__main__":
    main()
