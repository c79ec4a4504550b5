"""docs/protocol.md says what the code does."""

import re
from pathlib import Path

from paluku.protocol import native
from paluku.protocol.messages import VERSION, CloseCode
from paluku.serving.config import ServingConfig
from paluku.voices import STYLES, VOICES

PAGE = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")


def test_every_kind_and_close_code_is_on_the_page() -> None:
    assert {int(kind, 16) for kind in re.findall(r"^\| `(0x\w\w)` \|", PAGE, re.MULTILINE)} == set(
        native.Kind
    )
    codes = {int(code) for code in re.findall(r"^\| (1\d\d\d) \|", PAGE, re.MULTILINE)}
    assert codes == set(CloseCode) - {CloseCode.GOING_AWAY}  # only counted: there is nobody left to tell


def test_names_and_limits_are_the_ones_on_the_page() -> None:
    assert f"version {VERSION}" in PAGE
    assert all(f"`{name}`" in PAGE for name in (*VOICES, *STYLES))
    assert f"{native.MAX_MESSAGE_BYTES:,} bytes" in PAGE
    limits = ServingConfig()
    assert (
        f"no Hello within {limits.hello_timeout_s:g} s; no message within {limits.idle_timeout_s:g} s" in PAGE
    )
    assert f"{limits.max_waiting_messages} messages wait" in PAGE
    assert f"within {limits.close_timeout_s:g} s more" in PAGE
    assert limits.max_waiting_frames * 0.04 == 2  # "two seconds"
