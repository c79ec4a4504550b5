"""Register a codec and an S2S model as one bundle, and make it the champion if it passes every gate.

`CONFIG.yaml [key=value ...]`. Candidate and champion are judged by the same dialogues in one MLflow run; exit
code 1 when the candidate is refused.
"""

import json
import sys

from paluku.config import from_command_line
from paluku.errors import exits_cleanly
from paluku.evals import gates
from paluku.evals.promotion import PromoteConfig

REFUSED = 1


@exits_cleanly
def main() -> None:
    """Parse, register, compare, move the alias, tell the service."""
    config = from_command_line(PromoteConfig, __doc__ or "")
    gates.with_settings(config.gates)  # what is wrong with it is said before anything is registered
    from jobs.promotion import compare
    from paluku.registry.artefact import read_card
    from paluku.registry.bundle import write_bundle
    from paluku.registry.store import CANDIDATE, CHAMPION, register
    from paluku.tokens.text import default_tokenizer, read_tokenizer

    tokenizer = read_tokenizer(config.tokenizer) if config.tokenizer else default_tokenizer()
    card = write_bundle(config.out, config.codec, config.s2s, tokenizer)
    run_id, alias = read_card(config.s2s, "s2s").run_id, config.alias
    first = CANDIDATE if alias == CHAMPION else alias
    version = register(config.out, config.name, config.tracking_uri, run_id, first)
    told = {"name": config.name, "alias": alias, "version": version, **card.model_dump()}
    if alias == CHAMPION:
        told |= compare(config, version, card.model_dump(exclude={"schema_version"}))
        if not told["promoted"]:
            print(json.dumps(told | {"alias": CANDIDATE}, ensure_ascii=False))
            sys.exit(REFUSED)
    print(
        json.dumps(told, ensure_ascii=False), flush=True
    )  # it is so, whether or not the service hears of it
    if config.serve_url:
        tell(config, f"models:/{config.name}@{alias}", str(version), card.digest())


def tell(config: PromoteConfig, bundle: str, revision: str, digest: str) -> None:
    """Make the running application look where the alias points now; wait where its address is known."""
    from paluku.serving.reload import reload, wait_served

    reload(config.serve_url, config.serve_key, config.serve_application, bundle, revision)
    if config.endpoint_url:
        wait_served(config.endpoint_url, digest)


if __name__ == "__main__":
    main()
