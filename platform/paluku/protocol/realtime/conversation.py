"""The conversation as the client knows it: items in order, with ids of the client's own if it gives them."""

import base64
import binascii
from collections import OrderedDict
from typing import Any, NamedTuple

from paluku.protocol.realtime.events import MAX_ID_CHARACTERS, Event, Namer, RefusedError, size_of, text_at

# Hours of turns.
MAX_ITEMS = 1000
# An item as JSON; it holds no sound. An hour's transcript is about so long.
MAX_ITEM_BYTES = 65_536
# All items. A thousand spoken turns are less, and so a process of hundreds of sessions stays small.
MAX_BYTES = 2**20
_KINDS = ("message", "function_call", "function_call_output")
_PARTS = {
    "user": ("input_text", "input_audio", "input_image"),
    "system": ("input_text",),
    "assistant": ("output_text", "output_audio"),
}


class Placed(NamedTuple):
    """An item and the one it stands behind."""

    item: Event
    previous_item_id: str | None


class Conversation:
    """Items by id, in order."""

    def __init__(self) -> None:
        self._items: OrderedDict[str, Event] = OrderedDict()
        self._sizes: dict[str, int] = {}  # of each item, in bytes
        self._num_bytes = 0

    def __len__(self) -> int:
        """How many items there are."""
        return len(self._items)

    @property
    def last_id(self) -> str | None:
        """The item a new one stands behind."""
        return next(reversed(self._items), None)

    def add(self, item: Event, previous_item_id: str | None = None) -> Placed:
        """Put an item behind another: at the end, at the beginning (`root`), or behind the one named.

        Where there are too many, or too long ones, the first go.

        Raises:
            RefusedError: when the id is taken, or the other item is not there.
        """
        name = item["id"]
        if name in self._items:
            raise RefusedError("item_create_duplicate_item_id", "an item with this id exists", "item.id")
        if previous_item_id not in (None, "root", *self._items):
            message = "previous_item_id names no item"
            raise RefusedError("item_create_invalid_previous_item_id", message, "previous_item_id")
        before = self.last_id if previous_item_id is None else previous_item_id
        self.replace(item)
        if previous_item_id is not None:
            self._put_behind(name, previous_item_id)
        while len(self._items) > MAX_ITEMS or self._num_bytes > MAX_BYTES:
            self._drop(next(iter(self._items)))
        return Placed(item, None if before == "root" else before)

    def get(self, item_id: str, code: str) -> Event:
        """The item of that id.

        Raises:
            RefusedError: with `code`, when there is none.
        """
        if item_id not in self._items:
            raise RefusedError(code, "item_id names no item of this conversation", "item_id")
        return self._items[item_id]

    def __contains__(self, item_id: str) -> bool:
        """Whether there is an item of that id."""
        return item_id in self._items

    def before(self, item_id: str) -> str | None:
        """The item that one stands behind."""
        order = list(self._items)
        index = order.index(item_id)
        return order[index - 1] if index else None

    def replace(self, item: Event) -> None:
        """Another state of an item that is there."""
        name, size = item["id"], size_of(item)
        self._num_bytes += size - self._sizes.get(name, 0)
        self._items[name], self._sizes[name] = item, size

    def delete(self, item_id: str) -> None:
        """Take an item out. Raises RefusedError when there is none of that id."""
        self.get(item_id, "item_delete_invalid_item_id")
        self._drop(item_id)

    def _drop(self, name: str) -> None:
        del self._items[name]
        self._num_bytes -= self._sizes.pop(name)

    def _put_behind(self, name: str, previous: str) -> None:
        order = [key for key in self._items if key != name]
        order.insert(0 if previous == "root" else order.index(previous) + 1, name)
        for key in order:
            self._items.move_to_end(key)


def read_item(asked: object, ids: Namer) -> tuple[Event, list[bytes]]:
    """An item a client wants to add, as it is kept, and the sound in it: the sound itself is not kept.

    Raises:
        RefusedError: when it is none.
    """
    if not isinstance(asked, dict):
        raise RefusedError("invalid_value", "item must be an object", "item")
    kind = asked.get("type", "message")
    if kind not in _KINDS:
        raise RefusedError("invalid_value", f"item.type must be one of {', '.join(_KINDS)}", "item.type")
    name = asked.get("id") or ids.new("item")
    if not isinstance(name, str) or len(name) > MAX_ID_CHARACTERS or name == "root":
        raise RefusedError(
            "invalid_value", f"item.id must be a string of 1 to {MAX_ID_CHARACTERS}", "item.id"
        )
    item: Event = {"id": name, "object": "realtime.item", "type": kind, "status": "completed"}
    if kind != "message":
        keys = ("call_id", "output") if kind == "function_call_output" else ("call_id", "name", "arguments")
        return _bounded(item | {key: text_at(asked, key, "item.") for key in keys}), []
    role = asked.get("role")
    if not isinstance(role, str) or role not in _PARTS:
        raise RefusedError("invalid_value", f"item.role must be one of {', '.join(_PARTS)}", "item.role")
    content = asked.get("content")
    if not isinstance(content, list):
        raise RefusedError("invalid_value", "item.content must be a list", "item.content")
    read = [_part(part, role) for part in content]
    item = _bounded(item | {"role": role, "content": [part for part, _ in read]})
    return item, [sound for _, sound in read if sound]


def _bounded(item: Event) -> Event:
    if size_of(item) > MAX_ITEM_BYTES:
        message = f"an item may hold {MAX_ITEM_BYTES} bytes beside its sound; split it"
        raise RefusedError("item_too_large", message, "item")
    return item


def _part(part: object, role: str) -> tuple[Event, bytes]:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or kind not in _PARTS[role]:
        message = f"a {role} message holds {', '.join(_PARTS[role])}"
        raise RefusedError("invalid_value", message, "item.content")
    if kind in ("input_text", "output_text"):
        return {"type": kind, "text": text_at(part, "text", "item.content.")}, b""
    if kind == "input_image":
        raise RefusedError("invalid_value", "this model sees no images", "item.content")
    said: Any = part.get("transcript")
    kept = {"type": kind, "transcript": said if isinstance(said, str) else None}
    return kept, sound_of(part, "audio") if kind == "input_audio" else b""


def sound_of(values: Event, key: str) -> bytes:
    """Sound in base64.

    Raises:
        RefusedError: when it is none.
    """
    try:
        return base64.b64decode(text_at(values, key), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError("invalid_value", f"{key} is not base64", key) from error
