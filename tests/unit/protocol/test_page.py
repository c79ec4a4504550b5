"""docs/protocol.md says what the code does."""

import re
from pathlib import Path

from paluku.protocol import native
from paluku.protocol.messages import (
    CAPABILITIES,
    MAX_LABEL_BYTES,
    VERSION,
    Adjust,
    CloseCode,
    Hello,
    Ready,
    Stats,
)
from paluku.serving.config import ServingConfig
from paluku.voices import STYLES, VOICES

PAGE = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")


def test_every_kind_and_close_code_is_on_the_page() -> None:
    assert {int(kind, 16) for kind in re.findall(r"^\| `(0x\w\w)` \|", PAGE, re.MULTILINE)} == set(
        native.Kind
    )
    codes = {int(code) for code in re.findall(r"^\| (1\d\d\d) \|", PAGE, re.MULTILINE)}
    assert codes == set(CloseCode)


def test_names_and_limits_are_the_ones_on_the_page() -> None:
    limits = ServingConfig()
    assert f"version {VERSION}" in PAGE
    assert all(f"`{name}`" in PAGE for name in (*CAPABILITIES, *Hello.model_fields))
    assert all(
        f"`{name}`" in PAGE for name in (*Ready.model_fields, *Stats.model_fields, *Adjust.model_fields)
    )
    assert f"at most {MAX_LABEL_BYTES} bytes" in PAGE
    assert f"({limits.grace_s:g} s)" in PAGE
    assert all(f"`{name}`" in PAGE for name in (*VOICES, *STYLES))
    assert f"{native.MAX_MESSAGE_BYTES:,} bytes" in PAGE
    assert (
        f"no Hello within {limits.hello_timeout_s:g} s; no message within {limits.idle_timeout_s:g} s" in PAGE
    )
    assert f"{limits.max_waiting_messages} messages wait" in PAGE
    assert f"within {limits.close_timeout_s:g} s more" in PAGE
    assert limits.max_waiting_frames * 0.04 == 2  # "two seconds"
