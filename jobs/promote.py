"""Put a codec and an S2S model in one bundle, register it in MLflow, and point an alias at it."""

import json

from paluku.config import AbsolutePath, Config, from_command_line
from paluku.errors import exits_cleanly


class PromoteConfig(Config):
    """Which models become which registered model's version."""

    codec: AbsolutePath  # model folders, as training left them
    s2s: AbsolutePath
    out: AbsolutePath  # the bundle's folder
    tracking_uri: str
    name: str = "paluku"
    alias: str = "champion"


@exits_cleanly
def main() -> None:
    """Parse, build, register."""
    config = from_command_line(PromoteConfig, __doc__ or "")
    from paluku.registry.artefact import read_card
    from paluku.registry.bundle import write_bundle
    from paluku.registry.store import register
    from paluku.tokens.text import CharTokenizer

    card = write_bundle(config.out, config.codec, config.s2s, CharTokenizer())
    run_id = read_card(config.s2s, "s2s").run_id
    version = register(config.out, config.name, config.tracking_uri, run_id, config.alias)
    print(json.dumps({"name": config.name, "alias": config.alias, "version": version, **card.model_dump()}))


if __name__ == "__main__":
    main()
