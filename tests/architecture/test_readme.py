"""What the README tells people to type: programs, options, settings and files that are there."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = {"jobs": ROOT / "jobs", "paluku": ROOT / "platform" / "paluku"}


def commands() -> list[str]:
    """Of code blocks, continued lines joined, and of code within lines."""
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
    lines = blocks.replace("\\\n", " ").splitlines()
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL))
    return [line.strip() for line in [*lines, *inline]]


PYTHON = sorted({c for c in commands() if re.match(r"python -m (jobs|paluku)\.\w", c)})
MAKE = sorted({target for c in commands() for target in re.findall(r"^make ([a-z-]+)$", c)})


def source(module: str) -> Path:
    """The file that `python -m MODULE` runs."""
    package, *rest = module.split(".")
    path = PROGRAMS[package].joinpath(*rest)
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def test_there_are_commands_to_look_at() -> None:
    assert len(PYTHON) >= 8
    assert {"demo", "test", "serve", "mlflow", "doctor"} <= set(MAKE)


@pytest.mark.parametrize("target", MAKE)
def test_make_knows_the_target(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("command", PYTHON)
def test_a_program_is_there_and_takes_what_it_is_given(command: str) -> None:
    _, _, module, *arguments = shlex.split(command)
    text = source(module).read_text(encoding="utf-8")
    assert "def main(" in text
    nearby = text + "".join(p.read_text(encoding="utf-8") for p in source(module).parent.glob("*.py"))
    for flag in (a.split("=")[0] for a in arguments if a.startswith("--")):
        assert f'"{flag}"' in nearby, f"{flag} of {command}"
    for config in (a for a in arguments if a.startswith("jobs/configs/")):
        yaml.safe_load((ROOT / config).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", README))))
def test_what_is_linked_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("path", sorted({c for c in commands() if re.fullmatch(r"[\w/.-]+/[\w.-]+\.\w+", c)}))
def test_files_that_are_named_are_there(path: str) -> None:
    assert (ROOT / path).exists()
