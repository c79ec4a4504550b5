"""Installed packages against `constraints.txt`."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path

from paluku.errors import ConfigError
from paluku.serving.doctor.finding import Finding, failure, warning, well

NAMED = 5  # packages that a line of the table names

MEND = "run `make setup`"


def check(constraints: Path, python: tuple[int, int] = sys.version_info[:2]) -> list[Finding]:
    """Python, the packages that Paluku needs, and those that others were tested with.

    Raises:
        ConfigError: when the file cannot be read.
    """
    try:
        pinned = pins(constraints.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{constraints} cannot be read ({error.strerror}); it lies in the checkout"
        ) from error
    needed = needs(metadata.requires("paluku") or [])
    return [_python(python), *compare(pinned, installed, needed)]


def _python(version: tuple[int, int]) -> Finding:
    said = ".".join(map(str, version))
    if (3, 11) <= version < (3, 13):
        return well("Python", said)
    return failure("Python", said, "make .venv anew with Python 3.11 or 3.12")


def compare(
    pinned: Mapping[str, str], version_of: Callable[[str], str | None], needed: Iterable[str]
) -> list[Finding]:
    """`needed` are the packages without which nothing runs."""
    missing = sorted(name for name in needed if version_of(name) is None)
    present = {name: found for name in pinned if (found := version_of(name)) is not None}
    other = sorted(
        f"{name} {found} (not {pinned[name]})"
        for name, found in present.items()
        if public(found) != public(pinned[name])
    )
    findings = []
    if missing:
        findings.append(failure("packages", f"missing: {_few(missing)}", MEND))
    if other:
        findings.append(warning("packages", f"other versions than tested: {_few(other)}", MEND))
    return findings or [well("packages", f"{len(present)} of {len(pinned)} pinned ones are here, as pinned")]


def _few(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def pins(text: str) -> dict[str, str]:
    """`name==version` lines; comments and markers are left out."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;#]+)", text, re.MULTILINE)
    return {canonical(name): version for name, version in found}


def needs(requirements: Iterable[str]) -> list[str]:
    """The names of requirements that belong to no extra."""
    own = (text for text in requirements if "extra ==" not in text)
    return [canonical(re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0]) for text in own]


def canonical(name: str) -> str:
    """As PyPI compares names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def public(version: str) -> str:
    """Without a build's own mark: 2.13.0+cpu is 2.13.0."""
    return version.partition("+")[0]


def installed(name: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
