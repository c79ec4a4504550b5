"""What one check found, and what to do about it."""

from collections.abc import Sequence
from typing import Literal

from paluku.config import Config

Verdict = Literal["ok", "warn", "FAIL"]


class Finding(Config):
    """One line of the doctor's table. `todo` says what to do; it is empty when all is well."""

    check: str
    verdict: Verdict
    found: str
    todo: str = ""


def well(check: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(check=check, verdict="ok", found=found)


def warning(check: str, found: str, todo: str) -> Finding:
    """It works, and something will be missing or slow."""
    return Finding(check=check, verdict="warn", found=found, todo=todo)


def failure(check: str, found: str, todo: str) -> Finding:
    """Something the platform needs does not work."""
    return Finding(check=check, verdict="FAIL", found=found, todo=todo)


def graded(
    check: str, amount: float, fails_below: float, warns_below: float, found: str, todo: str
) -> Finding:
    """By an amount of which more is better."""
    if amount < fails_below:
        return failure(check, found, todo)
    return warning(check, found, todo) if amount < warns_below else well(check, found)


def exit_code(findings: Sequence[Finding]) -> int:
    """1 when anything failed; warnings do not count."""
    return int(any(finding.verdict == "FAIL" for finding in findings))
