"""What a Realtime client says before the first event: its sub-protocols. A key among them is the gate's."""

from collections.abc import Sequence

SUBPROTOCOL = "realtime"


def selected(offered: Sequence[str]) -> str | None:
    """The sub-protocol to select: `realtime` when offered, none else; a key is never sent back."""
    return SUBPROTOCOL if SUBPROTOCOL in offered else None
