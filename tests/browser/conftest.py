"""A real headless Chromium whose microphone hears a WAV, and the real application with its page."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from paluku.audio import write_wav
from tests.browser.server import RATE_HZ, Site, site
from tests.fakes.speech import speech_like

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
QUESTION_S, SILENCE_S = 1.0, 4.0
PATIENCE_MS = 30_000
Launch = Callable[..., "Browser"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        reason = "no playwright; pip install playwright"
    else:
        reason = "" if CHROMIUM else "no Chromium here; apt-get install chromium"
    for item in items if reason else []:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def question(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of what sounds like speech, four of silence: Chromium's microphone says it again and again."""
    path = tmp_path_factory.mktemp("microphone") / "question.wav"
    wave = np.clip(6 * speech_like(3, QUESTION_S, RATE_HZ), -0.9, 0.9)
    write_wav(path, np.pad(wave, (0, round(SILENCE_S * RATE_HZ))), RATE_HZ)
    return path


@pytest.fixture(scope="package")
def launch(question: Path) -> Iterator[Launch]:
    """Start Chromium; `allows` is what the user answers when the page asks for the microphone."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, ExitStack() as stack:

        def start(*, allows: bool = True) -> "Browser":
            flags = [
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={question}",
                *(["--use-fake-ui-for-media-stream"] if allows else []),
                "--autoplay-policy=no-user-gesture-required",
            ]
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*flags, "--no-sandbox"])
            stack.callback(browser.close)
            return browser

        yield start


@pytest.fixture(scope="package")
def browser(launch: Launch) -> "Browser":
    return launch()


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with site(num_seats=2) as running:
        yield running


@contextmanager
def opened(browser: "Browser", url: str, expects: str = "", **options: Any) -> Iterator["Page"]:
    """A page of its own; whatever its console complains of, but for what is expected, fails the test."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    try:
        yield page
    finally:
        page.evaluate("globalThis.paluku?.conversation?.leave()")  # else the server waits for its return
        context.close()
    assert not [text for text in complaints if not (expects and expects in text)]


@pytest.fixture
def page(browser: "Browser", server: Site) -> Iterator["Page"]:
    with opened(browser, server.url) as page:
        yield page
