"""Train the S2S model under Ray Train: `CONFIG.yaml [key=value ...] [placement.key=value ...] [--from DIR]`.

`--from` begins with a model folder's weights, or with Moshi's: kyutai/moshiko-pytorch-bf16, or such a file
(with jobs/configs/train_s2s.moshi_7b.yaml). A run that was stopped goes on from the newest checkpoint in
`out`.
"""

import json
from pathlib import Path

from paluku.config import command_line, load, resolve, split_section
from paluku.errors import exits_cleanly


@exits_cleanly
def main() -> None:
    """Parse, check what can be checked here, run on the cluster."""
    arguments = command_line(
        __doc__ or "", extra=[("--from", "weights to begin with: a model folder, or Moshi's")]
    )
    from paluku.cluster.train import Placement, train
    from paluku.corpus.shards import ShardSet
    from paluku.registry.tracking import Data
    from paluku.training import checkpoint, s2s_loop
    from paluku.training.s2s_config import MOSHI, S2STrainingConfig

    placed, overrides = split_section(arguments.overrides, "placement")
    if (weights := getattr(arguments, "from")) is not None:
        found = weights if weights.startswith(MOSHI) else Path(weights).resolve()
        overrides = [*overrides, f"begin_from={found}"]
    config = load(S2STrainingConfig, arguments.config, overrides)
    placement = resolve(Placement, {"experiment": "s2s", **placed}, "placement")
    tokens = ShardSet(config.tokens, "tokens", "train")
    for each in (tokens, *(ShardSet(folder, "tokens", "train") for folder in config.asks_from)):
        each.verify()
    data = Data("tokens", tokens.manifest.hash, config.tokens)
    made_of = {**tokens.manifest.parents, **s2s_loop.parents_of(tokens, config.asks_from)}
    parents = {f"{kind}_hash": parent for kind, parent in made_of.items() if kind != "tokens"}
    resume = checkpoint.newest(config.out)
    trained = train(s2s_loop.run, config, config.out, placement, data, parents, resume)
    print(json.dumps({"s2s": str(trained.folder), "run_id": trained.run_id, "hash": trained.hash}))


if __name__ == "__main__":
    main()
