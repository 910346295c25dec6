"""How soon the playground shows its points, and a digit.

    python -m benchmarks.playground [--visits 5]      from the root, after npm run build

Milliseconds of the page's own clock, in Chromium without a window, each visit with an
empty cache: from the address to the points, drawn; from a click on "Digits and
sprites" to the first digit, the 16 MB included; then of the next three digits, each
with 20 steps and w 0.5. The load is that of the whole machine: run nothing else.
"""

import argparse
import os
from pathlib import Path
from statistics import median

from tests import browser_tools

PAGE = Path(__file__).parent.parent / "docs/playground"
WATCH = """
  window.drawn = (selector) => new Promise((done) => {
    new MutationObserver((_, observer) => {
      if (!document.querySelector(selector)?.childNodes.length) return
      observer.disconnect()
      requestAnimationFrame(() => setTimeout(() => done(performance.now())))
    }).observe(document, {childList: true, subtree: true})
  })
  window.points = drawn("#ddim-told")
"""
OPEN = """async () => {
  const then = performance.now()
  document.querySelector("#pictures-open summary").click()
  return await drawn("#film") - then
}"""
NEXT = """async (seed) => {
  const field = document.querySelector("[name=picture_seed]"), then = performance.now()
  document.querySelector("#film").replaceChildren()
  field.value = seed
  field.dispatchEvent(new Event("input", {bubbles: true}))
  return await drawn("#film") - then
}"""


def visit(browser, address):
    """(points, first digit, [next digits]) of one visit."""
    with browser.new_context() as context:
        page = context.new_page()
        page.add_init_script(WATCH)
        page.goto(address)
        points, first = page.evaluate("points"), page.evaluate(OPEN)
        return points, first, [page.evaluate(NEXT, seed) for seed in (1, 2, 3)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visits", type=int, default=5)
    visits = range(parser.parse_args().visits)
    with browser_tools.served(PAGE) as address, browser_tools.chromium() as browser:
        points, first, others = zip(
            *(visit(browser, address) for _ in visits), strict=True
        )
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; median, range")
    for name, times in (
        ("points", points), ("first digit, loaded", first),
        ("second digit", [one[0] for one in others]),
        ("fourth digit", [one[2] for one in others]),
    ):  # fmt: skip
        ends = f"{min(times):.0f} to {max(times):.0f}"
        print(f"{name:20s} {median(times):5.0f} ms, {ends}")
