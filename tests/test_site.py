"""The site, as it was built: its links, and in a real browser its search and its look.

Build it first, with README's command. Chromium is Debian's, or Playwright's own.
"""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote, urldefrag

import pytest

from tests import browser_tools

SITE = Path(__file__).parent.parent / "docs/_build/site"
pytestmark = pytest.mark.skipif(
    not (SITE / "index.html").exists(), reason="the site is not built: README says how"
)
QUESTIONS = {  # what a reader asks: the page with the answer
    "why is there no noise at t = 1": "lessons/03-back-again.html",
    "where is DDPM's Eq. 11": "lessons/03-back-again.html",
    "why does the code write another line": "lessons/03-back-again.html",
    "what does upsampling's backward pass do": "lessons/05-network.html",
    "what must be saved for an exact resume": "lessons/04-learning.html",
    "why v and not eps": "lessons/04-learning.html",
    "how do I use my own pictures": "pictures.html",
    "when is DDIM better than DDPM": "lessons/07-fewer-steps.html",
    "what is the least loss one can reach": "lessons/02-best-answer.html",
}
LOOKED_AT = [
    "index.html",
    "lessons/03-back-again.html",
    "reference/schedule.html",
    "laws.html",
]
WIDTHS = (1400, 420)


class Page(HTMLParser):
    """The links of a page, and what can be linked to in it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[key] for key in ("id", "name") if found.get(key)}
        self.links += [found[key] for key in ("href", "src") if found.get(key)]


def test_every_link_inside_leads_to_a_page_and_a_place_in_it():
    pages = {path: Page(path) for path in SITE.rglob("*.html")}
    assert len(pages) > 40
    for path, page in pages.items():
        for link in page.links:
            name, place = urldefrag(link)
            if ":" in name:
                continue  # another site, or data
            target = (
                (path.parent / unquote(name.partition("?")[0])).resolve()
                if name
                else path
            )
            assert target.exists(), f"{path.name} links to {link}"
            if place and "=" not in place and target in pages:  # no settings of a page
                known = pages[target].ids
                assert unquote(place) in known, f"{path.name} links to {link}"


def test_no_lesson_shows_a_bar():
    for path in SITE.glob("lessons/*.html"):
        assert "step/s" not in path.read_text(encoding="utf-8"), path.name


@pytest.fixture(scope="module")
def address():
    with browser_tools.served(SITE) as found:
        yield found


@pytest.fixture
def page(browser, address):
    """A page that fails the test if the console has an error, or it asks elsewhere."""
    context, wrong = browser.new_context(), []
    context.set_default_timeout(180_000)  # a machine may be busy
    found = context.new_page()
    found.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on(
        "request", lambda r: r.url.startswith((address, "data:")) or wrong.append(r.url)
    )
    yield found
    context.close()
    assert not wrong


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_search_finds_the_answer(page, address, question):
    page.goto(f"{address}search.html?q={quote(question)}")
    page.wait_for_selector("#search-results li a")
    page.wait_for_function(
        "/found/.test(document.querySelector('.search-summary').innerText)"
    )
    links = page.eval_on_selector_all(
        "#search-results li a", "all => all.map(a => a.href)"
    )
    names = [
        urldefrag(link)[0].removeprefix(address).partition("?")[0] for link in links
    ]
    assert QUESTIONS[question] in names[:10] and "questions.html" in names[:10], names


@pytest.mark.parametrize("name", LOOKED_AT)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_fits_its_window(page, address, name, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(address + name)
    file = SITE.parent / "screenshots" / f"{name.replace('/', '-')}-{width}.png"
    page.screenshot(path=file, full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1").first.is_visible()


def test_formulas_are_drawn_by_the_browser(page, address):
    page.goto(f"{address}lessons/03-back-again.html")
    boxes = page.eval_on_selector_all(
        "article math", "all => all.map(m => m.getBoundingClientRect().height)"
    )
    shown = [height for height in boxes if height > 0]  # the others are in closed folds
    assert len(boxes) > 30 and len(shown) > 10 and min(shown) > 5
    assert "\\frac" not in page.inner_text("article")


def test_what_lesson_8_makes_of_the_mutants_is_a_table(page, address):
    page.goto(f"{address}lessons/08-check-your-own.html")
    rows = page.locator("article .cell_output table tbody tr")
    first = rows.first.locator("td").all_inner_texts()
    assert rows.count() >= 20 and first[1] == "q_sample"


def test_a_fold_opens_and_the_dark_colours_are_dark(page, address):
    page.emulate_media(color_scheme="dark")
    page.goto(f"{address}lessons/03-back-again.html")
    fold = page.locator("article details").first
    fold.locator("summary").click()
    assert (
        fold.get_attribute("open") is not None
        and fold.locator("math").first.is_visible()
    )
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red, green, blue = (int(v) for v in colour.strip("rgba()").split(",")[:3])
    assert red + green + blue < 150
