"""The page in a real browser, talking with the real application: sent, played, interrupted, resumed."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paluku.serving.config import ServingConfig
from tests.browser.conftest import Launch, opened
from tests.browser.server import REPLY, UNDERSTOOD, Site, site
from tests.wire.talker import KEY

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FINDS = "(() => {{ const {{ conversation: talk, report }} = paluku; return {condition}; }})()"
# Playwright's own wait_for_function evaluates strings in the page, which the page's policy forbids.
WAITS = """async () => {{
  for (let tries = 0; tries < 1500; tries += 1) {{
    if ({condition}) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }}
  throw new Error(`never came to hold; state ${{paluku.conversation?.state}}`);
}}"""

# What the loudspeaker played in the last twentieth of a second: the reply's tone, or nothing.
SOUNDS = "report.peaks.some((peak) => peak > 0.2)"
QUIET = "report.peaks.length && report.peaks.every((peak) => peak === 0)"


def until(page: "Page", condition: str) -> None:
    """Wait until it holds of the page's counters: `talk` (conversation.js), `report` (playback.worklet)."""
    page.evaluate(WAITS.format(condition=FINDS.format(condition=condition)))


def find(page: "Page", expression: str) -> Any:
    return page.evaluate(FINDS.format(condition=expression))


def press(page: "Page", name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def begin(page: "Page") -> None:
    press(page, "Talk")
    until(page, "talk?.state === 'talking'")


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every session a test began has ended when the next begins."""
    yield
    if "server" in request.fixturenames:
        running: Site = request.getfixturevalue("server")
        wait_for(lambda: not running.sessions)


def wait_for(holds: Callable[[], object], times: int = 1_500) -> None:
    for _ in range(times):
        if holds():
            return
        time.sleep(0.02)
    pytest.fail("it never came to hold")


def test_a_conversation(page: "Page", server: Site) -> None:
    """Frames go out, the reply is played, both transcripts and all measures are shown."""
    before = server.stats
    begin(page)
    assert page.get_by_role("status").inner_text() == "Connected"
    page.get_by_text(REPLY, exact=True).wait_for()
    page.get_by_text(UNDERSTOOD, exact=True).wait_for()
    until(page, SOUNDS)  # the reply's tone, as it was played
    until(page, "report.playedFrame > 60 && talk.counters.framesReceived > 60")
    until(page, "document.getElementById('response').textContent.endsWith('ms')")
    until(page, "document.getElementById('reaction').textContent.endsWith('ms')")
    (session,) = server.sessions
    counters = find(page, "({...talk.counters, aligned: talk.alignment !== null, phase: talk.isInPhase})")
    assert session.frames_in >= counters["framesReceived"] > 60
    assert session._played is not None
    assert session._played > 0  # the server knows what was heard
    assert (counters["lostFrames"], counters["resumes"], counters["aligned"]) == (0, 0, True)
    page.get_by_text("1 of 2 seats taken").wait_for()
    press(page, "End")
    assert page.get_by_role("status").inner_text() == "Not connected"
    wait_for(lambda: not server.stats["seats_used"])
    after = server.stats
    assert after["sessions_opened"] - before["sessions_opened"] == 1
    assert after["frames_out"] - before["frames_out"] >= counters["framesReceived"]
    assert not page.get_by_role("alert").is_visible()


def test_the_reply_is_announced_once_and_whole(page: "Page") -> None:
    """A screen reader hears utterances, not letters."""
    page.evaluate(
        """() => {
          globalThis.announced = [];
          const live = document.getElementById('announce');
          const observer = new MutationObserver(() => announced.push(live.textContent));
          observer.observe(live, { childList: true, characterData: true, subtree: true });
        }"""
    )
    begin(page)
    until(page, "announced.length >= 2")
    assert page.evaluate("announced.slice(0, 2)") == [f"You: {UNDERSTOOD}", f"Priya: {REPLY}"]


@pytest.mark.parametrize("way", ["button", "key"])
def test_an_interruption_is_heard_at_once(page: "Page", server: Site, way: str) -> None:
    """What waited to be played is gone before the server has answered, and the server forgets it too."""
    begin(page)
    until(page, SOUNDS)
    if way == "button":
        press(page, "Stop the reply")
    else:
        page.keyboard.press("Escape")
    until(page, "paluku.flushedMs.length >= 1")
    until(page, "paluku.interruptions === 1")
    until(page, QUIET)
    page.get_by_text("interrupted", exact=True).wait_for()
    wait_for(lambda: server.stats["moves"]["barge_in"] >= 1)


def test_speech_interrupts_the_reply(page: "Page", server: Site) -> None:
    """The microphone speaks again while the reply of eight seconds sounds: nobody presses anything."""
    begin(page)
    until(page, SOUNDS)
    until(page, "paluku.interruptions === 1")
    until(page, QUIET)
    assert page.evaluate("paluku.flushedMs.length") == 1


def test_voice_style_and_sampling_change_while_talking(page: "Page", server: Site) -> None:
    begin(page)
    assert [s.conditions.voice for s in server.sessions] == ["priya"]
    page.get_by_label("Lakshmi").check(force=True)
    page.get_by_label("Empathetic").check(force=True)
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Temperature, 0 to 2").fill("0.5")
    page.get_by_label("Temperature, 0 to 2").press("Tab")

    def is_changed() -> bool:
        (session,) = server.sessions
        chosen = session.conditions
        return (chosen.voice, chosen.style, chosen.temperature) == ("lakshmi", "empathy", 0.5)

    wait_for(is_changed)
    page.get_by_text(REPLY, exact=True).wait_for()
    assert page.locator(".said.reply .who").first.inner_text() == "Lakshmi"


def test_what_is_chosen_while_connecting_holds(page: "Page", server: Site) -> None:
    """Hello is on its way, Ready is not here yet."""
    page.evaluate(
        """() => {
          const { send } = WebSocket.prototype;
          WebSocket.prototype.send = function (bytes) {
            WebSocket.prototype.send = send;
            this.send(bytes);
            document.querySelector('[value=lakshmi]').click();
            const turns = document.getElementById('turns');
            turns.value = 'none';
            turns.dispatchEvent(new Event('change'));
          };
        }"""
    )
    begin(page)

    def holds() -> bool:
        return [(s.conditions.voice, s.turn_taking) for s in server.sessions] == [("lakshmi", "none")]

    wait_for(holds)


def test_a_cut_connection_is_taken_up_again(page: "Page", server: Site) -> None:
    """The same session over another socket, and no frame of it is missing on either side."""
    begin(page)
    until(page, "talk.counters.framesReceived > 30")
    before = server.stats["resumes"]
    server.cut()
    until(page, "talk.counters.resumes === 1 && talk.state === 'talking'")
    page.get_by_text("The connection was lost and taken up again").wait_for()
    first = find(page, "talk.counters.framesReceived")
    until(page, f"talk.counters.framesReceived > {first + 30}")
    assert server.stats["resumes"] == before + 1
    ids = page.evaluate("paluku.sessionIds")
    assert ids == [server.sessions[0].session_id] * 2
    assert find(page, "talk.counters.lostFrames") == 0
    assert page.get_by_role("status").inner_text() == "Connected"


def test_who_stops_a_reply_changes_within_the_session(page: "Page", server: Site) -> None:
    begin(page)
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Who stops a reply").select_option("none")
    wait_for(lambda: [s.turn_taking for s in server.sessions] == ["none"])
    until(page, "talk.counters.resumes === 1")
    assert len(set(page.evaluate("paluku.sessionIds"))) == 1


def test_forgetting(page: "Page", server: Site) -> None:
    begin(page)
    until(page, "talk.counters.framesReceived > 10")
    before = server.stats["moves"]["forget"]
    press(page, "Start afresh")
    wait_for(lambda: server.stats["moves"]["forget"] == before + 1)


def test_a_file_is_sent_without_a_microphone(page: "Page", server: Site, question: Path) -> None:
    page.locator("#file").set_input_files(question)
    page.get_by_text("Sending question.wav").wait_for()
    page.get_by_text(REPLY, exact=True).wait_for()
    page.get_by_text("The file has been heard").wait_for()
    assert page.get_by_role("button", name="Unmute me").is_visible()
    assert len(server.sessions) == 1


def test_a_damaged_file_is_told(page: "Page", tmp_path: Path) -> None:
    (tmp_path / "no.wav").write_bytes(b"no sound at all")
    page.locator("#file").set_input_files(tmp_path / "no.wav")
    page.get_by_text("This file cannot be played").wait_for()


def test_the_microphone_goes_off_and_on(page: "Page", server: Site) -> None:
    begin(page)
    press(page, "Mute me")
    frames = find(page, "talk.counters.framesSent")
    until(page, f"talk.counters.framesSent > {frames + 20}")  # silence: the session goes on
    press(page, "Unmute me")
    page.get_by_text(REPLY, exact=True).wait_for()


# getUserMedia answers when the test calls `allow()`, however often the page asks.
HESITATING = """() => {
  const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices);
  const allowed = new Promise((resolve) => { globalThis.allow = resolve; });
  globalThis.asked = [];
  devices.getUserMedia = (constraints) => {
    const stream = allowed.then(() => ask(constraints));
    asked.push(stream);
    return stream;
  };
}"""
OFF = """async () => {
  const streams = await Promise.all(asked);
  return streams.flatMap((stream) => stream.getTracks()).map((track) => track.readyState);
}"""


def test_a_microphone_that_is_allowed_too_late_goes_off_again(page: "Page") -> None:
    begin(page)
    press(page, "Mute me")
    page.evaluate(HESITATING)
    press(page, "Unmute me")
    press(page, "Unmute me")  # asked for once all the same
    press(page, "End")
    page.evaluate("allow()")
    assert page.evaluate(OFF) == ["ended"]


def test_asking_for_the_microphone_can_be_cancelled(page: "Page", server: Site) -> None:
    page.evaluate(HESITATING)
    press(page, "Talk")
    press(page, "Cancel")
    assert page.get_by_role("status").inner_text() == "Not connected"
    page.evaluate("allow()")
    assert page.evaluate(OFF) == ["ended"]
    assert not page.get_by_role("alert").is_visible()
    begin(page)
    assert len(server.sessions) == 1


def test_a_refused_microphone_is_told_in_words(launch: Launch, server: Site) -> None:
    with opened(launch(allows=False), server.url) as page:
        page.context.grant_permissions([])
        press(page, "Talk")
        page.get_by_role("alert").get_by_text("The microphone is blocked").wait_for()
        assert page.get_by_role("status").inner_text() == "Not connected"
        assert not server.sessions  # nobody took a seat for nothing


def test_no_microphone_is_told_in_words(page: "Page") -> None:
    page.evaluate(
        """() => { navigator.mediaDevices.getUserMedia = () =>
          Promise.reject(new DOMException('none', 'NotFoundError')); }"""
    )
    press(page, "Talk")
    page.get_by_role("alert").get_by_text("No microphone was found").wait_for()


def test_an_insecure_address_is_told_in_words(browser: "Browser", server: Site) -> None:
    """Another name for this machine than localhost, over HTTP."""
    context = browser.new_context()
    page = context.new_page()
    page.route(
        "http://paluku.test/**",
        lambda route: route.fulfill(
            response=route.fetch(url=route.request.url.replace("http://paluku.test/", server.url))
        ),
    )
    page.goto("http://paluku.test/")
    press(page, "Talk")
    page.get_by_role("alert").get_by_text("This address is not secure").wait_for()
    context.close()


def test_a_full_server_is_told_in_words(browser: "Browser") -> None:
    with site(num_seats=1) as full, opened(browser, full.url) as first, opened(browser, full.url) as second:
        begin(first)
        press(second, "Talk")
        alert = second.get_by_role("alert")
        alert.get_by_text("All seats are taken").wait_for()
        assert re.search(r"Come back in about \d+ seconds\.", alert.inner_text())
        press(first, "End")
        wait_for(lambda: not full.stats["seats_used"])
        begin(second)
        assert not alert.is_visible()


def test_a_server_that_wants_a_key_is_given_one(browser: "Browser") -> None:
    """The page comes without; a wrong key is told; the right one opens all, and is in no address."""
    asked: list[str] = []
    with site(keys=f"page={KEY}") as locked, opened(browser, locked.url, expects="401") as page:
        page.on("request", lambda request: asked.append(request.url))
        page.get_by_text("Shown to holders of a key").wait_for()
        press(page, "Talk")
        page.get_by_role("alert").get_by_text("A key is needed").wait_for()
        assert page.evaluate("document.activeElement.id") == "key"
        page.get_by_label("Key", exact=True).fill("pk_wrong-but-long-enough")
        press(page, "Use this key")
        page.get_by_role("alert").get_by_text("A key is needed").wait_for()
        until(page, "document.activeElement.id === 'key'")
        page.get_by_label("Key", exact=True).fill(KEY)
        page.get_by_label("Key", exact=True).press("Enter")
        until(page, "talk?.state === 'talking'")
        page.get_by_text("1 of 2 seats taken").wait_for()
    assert not [url for url in asked if KEY in url]


def test_a_server_of_another_version_is_told_in_words(page: "Page") -> None:
    page.route("**/health", lambda route: route.fulfill(json={"status": "ok", "protocol_version": 3}))
    press(page, "Talk")
    page.get_by_role("alert").get_by_text("Page and server do not fit").wait_for()


def test_a_server_that_is_gone_is_told_in_words(browser: "Browser") -> None:
    with site() as running, opened(browser, running.url, expects="ERR_CONNECTION") as page:
        begin(page)
        press(page, "End")
        wait_for(lambda: not running.sessions)
        running.http.should_exit = True
        wait_for(lambda: running.loop.is_running() is False)
        press(page, "Talk")
        page.get_by_role("alert").get_by_text("The server cannot be reached").wait_for()


def test_a_session_that_cannot_be_resumed_is_over(browser: "Browser") -> None:
    """No grace: what is lost is lost, and told."""
    with (
        site(config=ServingConfig(grace_s=0)) as strict,
        opened(browser, strict.url, expects="WebSocket") as page,
    ):
        begin(page)
        until(page, "talk.counters.framesReceived > 5")
        strict.cut()
        page.get_by_role("alert").get_by_text(
            re.compile("The connection was lost|The conversation is over")
        ).wait_for()
        assert page.get_by_role("status").inner_text() == "Not connected"
