"""Programs and packages that some commands want and the rest does without."""

import importlib.util
import shutil
from collections.abc import Callable
from typing import NamedTuple

from paluku.serving.doctor.finding import Finding, warning, well


class Tool(NamedTuple):
    """One of `packages` (Python) or one of `programs` is enough."""

    name: str
    packages: tuple[str, ...]
    programs: tuple[str, ...]
    wanted_by: str
    todo: str


TOOLS = (
    Tool("Opus", ("sphn",), (), "clients that send Opus on /ws", "pip install -c constraints.txt sphn"),
    Tool("opusenc", (), ("opusenc",), "codecs judged beside Opus", "apt-get install opus-tools"),
    Tool("ffmpeg", (), ("ffmpeg",), "torchcodec and datasets' Audio()", "apt-get install ffmpeg"),
    Tool(
        "video", ("av",), (), "corpora of video and of compressed audio", "pip install -c constraints.txt av"
    ),
    Tool(
        *("eSpeak NG", ("espeakng_loader",), ("espeak-ng",), "Telugu voices, dialogues, the demo's corpus"),
        "pip install -c constraints.txt espeakng-loader",
    ),
    Tool(
        "C compiler",
        (),
        ("gcc", "cc", "clang"),
        "PESQ, torch.compile on a CPU",
        "apt-get install gcc libc6-dev",
    ),
)


def check(
    tools: tuple[Tool, ...] = TOOLS,
    has_package: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None,
    has_program: Callable[[str], bool] = lambda name: shutil.which(name) is not None,
) -> list[Finding]:
    """What is missing is a warning: its users say so themselves."""
    findings = []
    for tool in tools:
        here = [*filter(has_package, tool.packages), *filter(has_program, tool.programs)]
        if here:
            findings.append(well(tool.name, here[0]))
        else:
            findings.append(warning(tool.name, f"missing; wanted by {tool.wanted_by}", tool.todo))
    return findings
