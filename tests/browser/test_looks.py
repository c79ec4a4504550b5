"""How the page looks and is operated: by keyboard, by a screen reader, on a phone, in light and dark."""

from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import opened
from tests.browser.server import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
# Everything on show, faults and transcript too.
SHOW_ALL = """async () => {
  const { Transcript } = await import('/web/transcript.js');
  const list = document.getElementById('transcript');
  const shown = new Transcript(list, document.createElement('p'), () => 'Priya');
  shown.add('user', 'ఎలా ఉన్నారు?');
  shown.add('reply', 'నమస్తే! నేను బాగున్నాను.');
  shown.interrupted();
  shown.note('The file has been heard');
  for (const id of ['alert', 'key-form']) document.getElementById(id).hidden = false;
  document.getElementById('alert-title').textContent = 'A key is needed';
  document.getElementById('alert-text').textContent = 'Type one.';
  document.getElementById('stop').disabled = false;
  document.querySelector('details').open = true;
}"""
# WCAG 2.1, 1.4.3: relative luminance, and the ratio that text of a size needs.
CONTRAST = """() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => parse(color).slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, n) => sum + part * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if ((parse(color)[3] ?? 1) > 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const faults = [];
  let checked = 0;
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    if (element.closest('noscript, .hidden, :disabled, option')) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    const [a, b] = [light(style.color), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    checked += 1;
    if (ratio < needed) faults.push(`${element.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return { faults, checked };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(browser: "Browser", server: Site, scheme: Any) -> None:
    with opened(browser, server.url, color_scheme=scheme, viewport=DESKTOP) as page:
        page.evaluate(SHOW_ALL)
        page.wait_for_timeout(0)
        told = page.evaluate(CONTRAST)
    assert told["checked"] > 40
    assert not told["faults"]


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_it_fits_its_screen(browser: "Browser", server: Site, viewport: Any) -> None:
    """Nothing is wider than the screen, and what is pressed is large enough for a finger."""
    with opened(browser, server.url, viewport=viewport) as page:
        page.evaluate(SHOW_ALL)
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        small = page.evaluate(
            """() => ['button', '.choice', 'select', 'summary', 'input:not([type=radio])']
              .flatMap((kind) => [...document.querySelectorAll(kind)])
              .filter((element) => element.checkVisibility() && !element.matches('.hidden'))
              .filter((element) => element.getBoundingClientRect().height < 24)
              .map((element) => element.outerHTML)"""
        )
    assert not small


def test_everything_that_is_operated_has_a_name(page: "Page") -> None:
    page.evaluate(SHOW_ALL)
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    operated = ("button", "radio", "textbox", "spinbutton", "combobox", "group", "radiogroup", "log", "image")
    nodes = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node["ignored"] and node.get("role", {}).get("value") in operated
    ]
    names = {name for _, name in nodes}
    assert {"Talk", "Send a file", "Voice", "Style", "Transcript", "Priya young woman"} <= names
    assert not [role for role, name in nodes if not name.strip()]
    assert len([role for role, _ in nodes if role == "radio"]) == 4 + 9


def test_ids_are_unique_and_labels_lead_somewhere(page: "Page") -> None:
    told = page.evaluate(
        """() => {
          const ids = [...document.querySelectorAll('[id]')].map((element) => element.id);
          const named = [...document.querySelectorAll('[for], [aria-labelledby]')]
            .map((element) => element.getAttribute('for') ?? element.getAttribute('aria-labelledby'));
          return { twice: ids.filter((id, n) => ids.indexOf(id) !== n),
                   nowhere: named.filter((id) => !ids.includes(id)) };
        }"""
    )
    assert told == {"twice": [], "nowhere": []}


def test_the_keyboard_reaches_everything_and_is_seen(page: "Page") -> None:
    """Tab goes from the button to the choices; arrows choose; what has the focus is outlined."""
    seen: list[str] = []
    for _ in range(12):
        page.keyboard.press("Tab")
        told = page.evaluate(
            """() => {
              const at = document.activeElement;
              const style = getComputedStyle(at.matches('.choice input') ? at.nextElementSibling : at);
              const name = at.id || at.value || at.tagName;
              return { name, line: style.outlineStyle, px: style.outlineWidth };
            }"""
        )
        seen.append(told["name"])
        assert told["line"] == "solid", told
        assert float(told["px"].removesuffix("px")) >= 2, told
        if told["name"] == "priya":
            page.keyboard.press("ArrowRight")
            assert page.evaluate("document.activeElement.value") == "lakshmi"
        if told["name"] == "SUMMARY":
            break
    assert seen == ["talk", "send", "transcript", "priya", "neutral", "SUMMARY"]


def test_live_regions_do_not_chatter(page: "Page") -> None:
    """What changes all the time is in no live region; the state and whole utterances are."""
    told = page.evaluate(
        """() => Object.fromEntries(['state', 'alert', 'announce', 'transcript', 'reaction', 'response']
          .map((id) => document.getElementById(id))
          .map((element) => [element.id, element.ariaLive ?? element.role]))"""
    )
    assert told == {
        "state": "status",
        "alert": "alert",
        "announce": "polite",
        "transcript": "off",
        "reaction": None,
        "response": None,
    }


def test_telugu_is_marked_and_has_its_fonts(page: "Page") -> None:
    page.evaluate(SHOW_ALL)
    said = page.locator(".said .text").first
    assert said.get_attribute("lang") == "te"
    assert "Telugu" in said.evaluate("(element) => getComputedStyle(element).fontFamily")
    assert page.locator("h1 span").first.get_attribute("lang") == "te"


def test_less_motion_is_respected(browser: "Browser", server: Site) -> None:
    with opened(browser, server.url, reduced_motion="reduce") as page:
        told = page.evaluate(
            """() => {
              document.getElementById('state').dataset.state = 'connecting';
              return [...document.querySelectorAll('*')]
                .filter((element) => getComputedStyle(element).animationName !== 'none').length;
            }"""
        )
    assert told == 0
