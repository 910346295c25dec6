"""The playground in a browser, and what tests of it look at and press."""

import re
from pathlib import Path

import pytest

from tests import browser_tools

PAGE = Path(__file__).parent.parent / "docs/playground"
needs_networks = pytest.mark.skipif(
    not (PAGE / "dist/sprites.json").exists(),
    reason="the networks are not there: in docs/playground, npm ci && npm run build",
)


@pytest.fixture(scope="module")
def address():
    with browser_tools.served(PAGE) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    with browser_tools.chromium() as found:
        yield found


@pytest.fixture
def visit(browser, address):
    """visit(link, **options) opens the page; a word in the console fails the test."""
    contexts, wrong = [], []

    def visit(link="", before=lambda page: None, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda r: r.url.startswith((address, "data:")) or wrong.append(r.url),
        )
        before(page)
        page.goto(f"{address}#{link}")
        return page

    visit.wrong = wrong
    yield visit
    for context in contexts:
        context.close()
    assert not wrong


def ready(page):
    """Wait until the films are there."""
    page.locator("#ddim-told", has_text="spread").wait_for()
    if page.locator("#pictures-open").get_attribute("open") is not None:
        page.locator("#film canvas").first.wait_for()
    return page


def settled(page):
    """What the page shows, once it is twice the same and nothing runs."""
    before = None
    while True:
        page.locator("section[aria-busy=true]").first.wait_for(state="detached")
        seen = page.evaluate(
            """() => [...document.querySelectorAll("canvas")].map((c) => c.toDataURL())
            .concat([...document.querySelectorAll("figcaption, [role=status], output")]
            .map((e) => e.textContent), document.querySelector("#link").value)"""
        )
        if seen == before:
            return seen
        before = seen
        page.wait_for_timeout(400)


def message(page, half="plane"):
    return page.locator(f"#{half}-message").inner_text()


def idle(page):
    """Wait until nothing is computed."""
    page.locator("section[aria-busy=true]").first.wait_for(state="detached")


def at(page, selector):
    """Is the focus there?"""
    return page.evaluate("s => document.activeElement.matches(s)", selector)


def go(page, selector, key="Tab"):
    """Press the key until the focus is there."""
    for _ in range(150):
        page.keyboard.press(key)
        if at(page, selector):
            return
    raise AssertionError(f"{key} does not reach {selector}")


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)
    idle(page)


def told(page, window):
    """(spread, % in place, x of the followed point's x0_hat or nothing)."""
    text = page.locator(f"#{window}-told").inner_text()
    spread, share, *x = map(float, re.findall(r"-?\d+\.?\d*(?= %|,)", text))
    return spread, share, *x


def pixels(page, canvas, channel):
    """One of the four channels of a canvas, as text."""
    return page.evaluate(
        """([name, channel]) => {
          const {width, height} = document.getElementById(name)
          const copy = new OffscreenCanvas(width, height)
            .getContext("2d", {willReadFrequently: true})
          copy.drawImage(document.getElementById(name), 0, 0)
          const {data} = copy.getImageData(0, 0, width, height)
          return data.filter((_, i) => i % 4 === channel).join()
        }""",
        [canvas, channel],
    )


def drawn(page, canvas):
    """Where something is drawn, whatever its colour."""
    return pixels(page, canvas, 3)


def place(box, x, y, edge=3.4):
    """Pixels of a place in the plane on a canvas."""
    return (
        box["x"] + box["width"] * (x / edge + 1) / 2,
        box["y"] + box["height"] * (1 - y / edge) / 2,
    )
