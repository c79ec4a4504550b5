"""What a Realtime client says before the first event: its sub-protocols, one of which may carry its key."""

from collections.abc import Sequence
from typing import NamedTuple

SUBPROTOCOL = "realtime"
# Browsers cannot set headers on a WebSocket, so OpenAI's clients put the key here.
_KEY_PREFIX = "openai-insecure-api-key."


class Offer(NamedTuple):
    """What was offered. `key` is a secret: it is compared, and never logged or sent back."""

    subprotocol: str | None  # the one to select: `realtime` when offered, none else
    key: str | None

    def __repr__(self) -> str:
        return f"Offer(subprotocol={self.subprotocol!r}, key={'set' if self.key else None})"


def read_offer(subprotocols: Sequence[str]) -> Offer:
    """Read what sub-protocols a client offers; others (beta headers, organisations) are passed over."""
    keys = [name.removeprefix(_KEY_PREFIX) for name in subprotocols if name.startswith(_KEY_PREFIX)]
    return Offer(SUBPROTOCOL if SUBPROTOCOL in subprotocols else None, keys[0] if keys and keys[0] else None)
