"""The grammar of a server's events, checked one by one, and a session that plays along."""

import base64
import json
from typing import Any

import numpy as np

from paluku.protocol.realtime.events import SERVER_EVENTS, Act, FreeRun, Hear, Say, write
from paluku.protocol.realtime.floor import Facts
from paluku.protocol.realtime.machine import Machine

FACTS = Facts("paluku-test", 16_000, 640)
FRAME_BYTES = 1280
LOUD = np.full(640, 4000, np.int16)
SILENT = np.zeros(640, np.int16)
# 0.2 s at 24 kHz: five frames.
SOUND = base64.b64encode(bytes(9600)).decode()


class Grammar:
    """Raises AssertionError at the first event out of its place."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.active: str | None = None
        self.item: str | None = None
        self.is_open = False
        self.text = ""
        self.responses = 0

    def check(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        assert kind in SERVER_EVENTS
        assert event["event_id"] not in self.ids
        assert (kind == "session.created") == (not self.ids)
        self.ids.add(event["event_id"])
        if kind.startswith("response."):
            getattr(self, "_" + kind.removeprefix("response.").replace(".", "_"))(event)

    def _created(self, event: dict[str, Any]) -> None:
        assert self.active is None
        assert event["response"]["status"] == "in_progress"
        assert event["response"]["output"] == []
        self.active, self.item, self.text = event["response"]["id"], None, ""
        self.responses += 1

    def _output_item_added(self, event: dict[str, Any]) -> None:
        assert event["response_id"] == self.active
        assert self.item is None
        self.item = event["item"]["id"]

    def _content_part_added(self, event: dict[str, Any]) -> None:
        self._here(event)
        assert not self.is_open
        self.is_open = True

    def _output_audio_delta(self, event: dict[str, Any]) -> None:
        self._here(event)
        assert self.is_open
        assert base64.b64decode(event["delta"])

    def _output_audio_transcript_delta(self, event: dict[str, Any]) -> None:
        self._here(event)
        assert self.is_open
        assert event["delta"]
        self.text += event["delta"]

    def _output_audio_done(self, event: dict[str, Any]) -> None:
        self._here(event)
        assert self.is_open

    def _output_audio_transcript_done(self, event: dict[str, Any]) -> None:
        self._here(event)
        assert event["transcript"] == self.text

    def _content_part_done(self, event: dict[str, Any]) -> None:
        self._here(event)
        assert self.is_open
        assert event["part"] == {"type": "audio", "transcript": self.text}
        self.is_open = False

    def _output_item_done(self, event: dict[str, Any]) -> None:
        assert event["item"]["id"] == self.item
        assert event["item"]["status"] in ("completed", "incomplete")
        assert not self.is_open

    def _done(self, event: dict[str, Any]) -> None:
        response = event["response"]
        assert response["id"] == self.active
        assert response["status"] in ("completed", "cancelled", "failed", "incomplete")
        assert not self.is_open
        assert [item["id"] for item in response["output"]] == ([self.item] if self.item else [])
        usage = response["usage"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        self.active = None

    def _here(self, event: dict[str, Any]) -> None:
        assert (event["response_id"], event["item_id"]) == (self.active, self.item)
        assert (event["output_index"], event["content_index"]) == (0, 0)


class Talk:
    """A machine, what it said, and what it asked of the session."""

    def __init__(self) -> None:
        self.machine = Machine("test", FACTS)
        self.grammar = Grammar()
        self.said: list[dict[str, Any]] = []
        self.acts: list[Act] = []
        self.heard = bytearray()
        self.runs_free = False
        self.frame = 0
        self._take(self.machine.start())

    def client(self, kind: str, **values: Any) -> list[dict[str, Any]]:
        """One event of the client's; gives what is said to it."""
        return self._take(self.machine.receive(json.dumps({"type": kind, **values})))

    def raw(self, text: str | bytes) -> list[dict[str, Any]]:
        return self._take(self.machine.receive(text))

    def reply(self, audible: bool, text: str = "", present: bool = True) -> list[dict[str, Any]]:
        """The session's next frame."""
        pcm = LOUD if audible else SILENT
        self.frame += 1
        return self._take(self.machine.reply_frame(self.frame - 1, pcm, present, audible, text))

    def news(self, acts: list[Act]) -> list[dict[str, Any]]:
        return self._take(acts)

    def user_turn(self) -> list[dict[str, Any]]:
        begun = self.news(self.machine.user_speech(True, self.frame))
        return begun + self.news(self.machine.user_speech(False, self.frame + 10))

    def _take(self, acts: list[Act]) -> list[dict[str, Any]]:
        said = []
        for act in acts:
            if isinstance(act, Say):
                event = json.loads(write(act.event))
                self.grammar.check(event)
                said.append(event)
            else:
                self.acts.append(act)
            if isinstance(act, Hear):
                self.heard += act.pcm
            if isinstance(act, FreeRun):
                self.runs_free = act.on
        self.said += said
        return said


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]
