"""The page for the browser: its numbers are the library's, and each control answers.

docs/playground.md says how to build it. Chromium is Debian's, or Playwright's own;
without a browser, without node or without what is built, tests are skipped.
"""

import functools
import json
import os
import runpy
import shutil
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from nanodiff import data, ddim, guide, pretrained
from tests.playground_tools import (
    PAGE,
    idle,
    message,
    needs_networks,
    place,
    ready,
    settled,
)

SHOTS = PAGE / "dist/screenshots"
WIDTHS = (1280, 400)
MUTANTS = [  # errors in the page's mathematics, each of which node's tests notice
    ("schedule.js", "1e-4, 0.02", "1e-4, 0.021"),
    ("schedule.js", "offset = 0.008", "offset = 0.01"),
    ("schedule.js", "product *= value", "product = value"),
    ("schedule.js", "Math.sqrt(alpha[t]) * (1 -", "Math.sqrt(alpha_bar[t]) * (1 -"),
    ("prediction.js", "return [within, predict_eps(schedule, xt, t, within)]",
     "return [within, eps_hat]"),
    ("ddpm.js", "|| beta_tilde === 0", ""),
    ("ddpm.js", "Math.sqrt(added), z", "added, z"),
    ("ddim.js", "Math.floor((i * T) / steps)", "Math.ceil((i * T) / steps)"),
    ("ddim.js", "alpha_bar_s - sigma ** 2", "alpha_bar_s"),
    ("respace.js", "model(xt, times[i])", "model(xt, i)"),
    ("exact.js", "0.5 * D", "0.5"),
    ("guidance.js", "1 + w", "w"),
    ("latent.js", "share * angle", "angle"),
    ("self_conditioning.js", "x0_hat = predict_x0", "x0_hat ??= predict_x0"),
    ("random.js", "-2 * Math.log", "-Math.log"),
]  # fmt: skip
STEPS = 20
SECOND = "open=on&picture_steps=2"  # the page's second half, quick


@pytest.fixture(scope="module")
def expected():
    return runpy.run_path(str(PAGE / "test/expected.py"))["expected"]()


# --------------------------------------------------------------------- the numbers


def node(folder, python=sys.executable):
    found = shutil.which("node")
    if found is None:
        pytest.skip("needs node")
    return subprocess.run(
        [found, "--test"], cwd=folder, env=os.environ | {"PYTHON": python},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_node_finds_the_librarys_numbers():
    ran = node(PAGE)
    assert ran.returncode == 0 and "\n# fail 0\n" in ran.stdout, ran.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory, expected):
    """The mathematics in a folder of its own, where the numbers lie ready."""
    folder = tmp_path_factory.mktemp("playground")
    for path in [*PAGE.glob("*.js"), PAGE / "package.json"]:
        shutil.copy(path, folder)
    (folder / "test").mkdir()
    shutil.copy(PAGE / "test/mathematics.test.js", folder / "test")
    (folder / "numbers.json").write_text(json.dumps(plain(expected)), encoding="utf-8")
    python = folder / "python"  # prints them in place of Python
    python.write_text(f"#!/bin/sh\ncat {folder}/numbers.json\n", encoding="utf-8")
    python.chmod(0o755)
    return folder


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
@pytest.mark.parametrize("file, right, wrong", [("ddim.js", "", ""), *MUTANTS])
def test_an_error_in_a_formula_is_noticed(copy, file, right, wrong):
    text = (PAGE / file).read_text(encoding="utf-8")
    assert right in text
    (copy / file).write_text(text.replace(right, wrong, 1), encoding="utf-8")
    ran = node(copy, str(copy / "python"))
    (copy / file).write_text(text, encoding="utf-8")
    assert (ran.returncode == 0) == (right == wrong), ran.stdout


def test_tables_and_steps_in_the_browser_are_the_librarys(visit, expected):
    found = visit().evaluate(
        """async ({tables, steps}) => {
          const {NAMED} = await import("./schedule.js")
          const [ddpm, ddim] = [await import("./ddpm.js"), await import("./ddim.js")]
          const made = tables.map(([name, T, of]) =>
            Object.keys(of).map((table) => [...NAMED[name](T)[table]]))
          const schedule = NAMED.cosine(60)
          const [xt, eps_hat, z] = [steps.xt, steps.eps_hat, steps.z]
            .map((x) => Float64Array.from(x))
          return {tables: made,
            ddpm: steps.ddpm.map(([t, variance, clip]) =>
              [...ddpm.step(schedule, xt, t, eps_hat, z, variance, clip)]),
            ddim: steps.ddim.map(([t, s, eta, clip]) =>
              [...ddim.step(schedule, xt, t, s, eps_hat, eta, z, clip)])}
        }""",
        plain(expected),
    )
    for made, (_, _, known) in zip(found["tables"], expected["tables"], strict=True):
        for table, values in zip(made, known.values(), strict=True):
            np.testing.assert_allclose(table, values, rtol=0, atol=1e-10)
    for sampler in ("ddpm", "ddim"):
        known = [step[-1] for step in expected["steps"][sampler]]
        np.testing.assert_allclose(found[sampler], known, rtol=1e-10, atol=1e-10)


def plain(value):
    """Arrays as lists, for the browser."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


@needs_networks
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("w", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("name", ["mnist", "sprites"])
def test_runs_in_the_browser_are_the_librarys(visit, name, w, eta):
    """Those of the library in float64: its float32 rounds as much as the page does.

    Each step is compared from the page's own x_t. A whole run multiplies the rounding
    of its steps, in some runs twofold in each step: so of three runs, the median.
    """
    found = pretrained(name)
    found.network.cast(np.float64)
    seeds, n = range(3), len(found.classes)
    rng = [np.random.default_rng(seed) for seed in seeds]
    size = (1 + STEPS, *found.shape)
    xT, *z = np.float32([one.standard_normal(size) for one in rng]).swapaxes(0, 1)
    context = data.one_hot([(seed + 2) % n for seed in seeds], n)
    made = visit().evaluate(
        """async ({name, xT, z, context, w, eta}) => {
          const {network} = await import("./network.js")
          const {guide} = await import("./guidance.js")
          const {sample} = await import("./ddim.js")
          const {fresh, schedule} = await network(name, () => {})
          const model = guide(fresh(), context, w), made = []
          const rng = {standard_normal: () => Float64Array.from(z.shift())}
          const start = Float64Array.from(xT)
          for await (const [, xs] of sample(model, schedule, start, 20, eta, rng, 1)) {
            made.push([...xs])
          }
          return made
        }""",
        {"name": name, "xT": xT.ravel().tolist(), "z": [x.ravel().tolist() for x in z],
         "context": context.tolist(), "w": w, "eta": eta},
    )  # fmt: skip
    made = [np.reshape(x, xT.shape) for x in made]
    times = ddim.timesteps(found.schedule.T, STEPS)

    def library(starts):
        """x_s after each step, each from the start that it is given; None: go on."""
        model, xs = guide(found.model, context.astype(float), w), None
        for (t, s), start, drawn in zip(pairwise(times), starts, z, strict=True):
            xt = xs if start is None else start.astype(float)
            eps_hat = model(xt, t)
            drawn = drawn.astype(float)
            xs = ddim.step(found.schedule, xt, t, s, eps_hat, eta, drawn, clip=1.0)
            yield xs

    run, steps = (
        np.abs(np.array(made) - list(library([xT, *starts]))).max((0, 2, 3, 4))
        for starts in ([None] * (STEPS - 1), made[:-1])
    )
    print(f"{name} w={w} eta={eta}: steps {steps.max():.1e}, runs", run)
    assert steps.max() < 3e-5
    assert np.median(run) < 1e-4


# -------------------------------------------------------------------- the controls


@needs_networks
def test_every_control_answers_to_the_keyboard(visit):
    page = ready(visit(f"{SECOND}&points=50&paths=2&frame=20&picture_frame=1"))
    names = page.eval_on_selector_all(
        "input:not([hidden]):not([readonly]), select, button, canvas[tabindex]",
        "all => all.filter((e) => e.checkVisibility()).map((e) => e.id || e.name ||"
        " e.value)",
    )
    print(len(names), "controls:", *names)
    assert len(names) > 45
    seen = settled(page)
    for name in names:
        control = page.locator(f"#{name}, [name={name}], #shapes [value={name}]").first
        control.focus()
        kind = control.evaluate("e => e.tagName + (e.type ?? '')")
        key = (
            "Enter" if "button" in kind
            else "Space" if "checkbox" in kind
            else "a" if kind.startswith("CANVAS")
            else "ArrowDown" if control.evaluate("e => !e.max || e.value === e.max")
            else "ArrowUp"
        )  # fmt: skip
        page.keyboard.press(key)
        now = settled(page)
        assert now != seen, f"{name} does nothing on {key}"
        seen = now
    assert message(page) == message(page, "pictures") == ""


def test_all_is_reached_by_the_tab_key(visit):
    page = ready(visit())
    wanted = page.eval_on_selector_all(
        "a, input:not([hidden]), select, button, summary, canvas[tabindex]",
        "all => all.filter((e) => e.checkVisibility() && !e.disabled).length",
    )
    reached = set()
    for _ in range(wanted):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "[...document.querySelectorAll('*')].indexOf(document.activeElement)"
            )
        )
    assert len(reached) == wanted > 30


def test_the_pointer_draws_moves_and_follows(visit):
    page = ready(visit("mixture=cloud"))
    box = page.locator("#data").bounding_box()
    at = functools.partial(place, box)
    page.mouse.move(*at(-2, 2))
    page.mouse.down()
    page.mouse.move(*at(2, 2), steps=30)
    page.mouse.up()
    drawn = page.locator("[name=mixture]").input_value().split(";")
    assert 8 <= len(drawn) <= 12 and all(",2,0.15,1" in cloud for cloud in drawn[1:])
    page.mouse.move(*at(0.5, 0))
    page.mouse.down()
    page.mouse.move(*at(-1, -2), steps=5)
    page.mouse.up()
    x, y, *_ = page.locator("[name=mixture]").input_value().split(";")[0].split(",")
    assert abs(float(x) + 1) < 0.1 and abs(float(y) + 2) < 0.1
    settled(page)
    page.locator("#ddim").click()
    assert int(page.locator("[name=follow]").input_value()) > 0


def test_a_touch_adds_a_cloud(visit):
    size = {"width": WIDTHS[-1], "height": 844}
    page = ready(visit("mixture=two", viewport=size, has_touch=True, is_mobile=True))
    page.locator("#data").scroll_into_view_if_needed()
    page.touchscreen.tap(*place(page.locator("#data").bounding_box(), 0, 2))
    clouds = page.locator("[name=mixture]").input_value().split(";")
    assert len(clouds) == 3
    x, y, *_ = map(float, clouds[2].split(","))
    assert abs(x) < 0.1 and abs(y - 2) < 0.1


def test_play_runs_from_noise_to_data(visit):
    page = ready(visit("steps=40"))
    page.evaluate(
        """() => {
          const seen = [], time = document.querySelector("#time")
          new MutationObserver(() => seen.push(time.textContent.slice(4)))
            .observe(time, {childList: true})
          window.seen = seen
        }"""
    )
    page.locator("#play").click()
    page.locator("#time", has_text="t = 0").wait_for(state="detached")
    page.locator("#play", has_text="Play").wait_for()
    seen = [int(t) for t in page.evaluate("window.seen")]
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) > 5 and seen[-1] == 0


def test_a_link_holds_all_settings(visit):
    link = (
        "frame=7&schedule=cosine&T=500&steps=9&eta=0.35&variance=beta&seed=12&points=50"
        "&paths=3&follow=4&guess=on&mixture=1,2,0.3,1;-1,0.5,0.2,2&network=sprites"
        "&sampler=ddpm&picture_steps=7&picture_eta=0.2&w=1.5&picture_seed=5&c0=0.5"
        "&c4=0.25&other_seed=8&fraction=0.3"
    )
    page = ready(visit(link))
    first = settled(page)
    held = page.locator("#link").input_value().partition("#")[2].replace("%2C", ",")
    assert set(link.split("&")) < set(held.replace("%3B", ";").split("&"))
    again = ready(visit(held))
    assert settled(again)[:-1] == first[:-1]


# ------------------------------------------------------------------- what goes wrong


def test_a_link_that_is_followed_forgets_the_settings_before(visit):
    page = ready(visit("eta=0.35&variance=beta&guess=on&mixture=two&w=2&steps=9"))
    page.evaluate("location.hash = 'steps=12'")
    page.wait_for_timeout(600)  # the link is written a little later
    idle(page)
    fresh = ready(visit("steps=12"))
    settings = "() => [...new FormData(document.querySelector('form'))].join()"
    assert page.evaluate(settings) == fresh.evaluate(settings)
    told = page.locator("#link").input_value().partition("#")[2]
    assert "steps=12&eta=0&" in told


@pytest.mark.parametrize(
    "link, sentence",
    [
        ("T=99999", "T is 99999, expected 25..1000 in steps of 25: 1000 is taken."),
        ("steps=none", "steps is none, expected 1..200"),
        ("seed=-1", "seed is -1, expected 0..999999: 0 is taken."),
        ("seed=one", "seed is one, expected 0..999999: 0 is taken."),
        ("T=NaN", "T is NaN, expected 25..1000 in steps of 25: "),
        ("eta=Infinity", "eta is Infinity, expected 0..1 in steps of 0.05: "),
        ("follow=1e9", "follow is 1e9, expected 0..1000: 0 is taken."),
        ("frame=999", "frame is 999, expected 0..200: 200 is taken."),
        ("w=-7", "w is -7, expected -1..5 in steps of 0.25: -1 is taken."),
        ("c3=half", "c3 is half, expected 0..1 in steps of 0.05: "),
        ("c12=1", "The link names c12, which is no setting."),
        ("network=letters", "network is letters, expected one of mnist, sprites: "),
        ("mixture=NaN,0,1,1", 'mixture has "NaN,0,1,1", expected x,y,std,weight'),
        ("schedule=flat", "schedule is flat, expected one of linear, cosine"),
        ("mixture=1,2", 'mixture has "1,2", expected x,y,std,weight'),
        ("mixture=", "There are no data: draw a cloud, or choose a shape."),
        ("nothing=1", "The link names nothing, which is no setting."),
        ("T=25&steps=99", "Steps are 99 and T is 25: 25 steps are taken."),
        ("schedule=quadratic", "alpha_bar_T is 0.0047: x_T would still hold"),
    ],
)
def test_a_link_that_does_not_fit_gets_a_sentence(visit, link, sentence):
    page = visit(link)
    page.locator("#plane-message", has_text=sentence).wait_for()
    page.locator("[name=schedule]").select_option("cosine")  # the page lives
    page.locator("#shapes [value=two]").click()
    ready(page)


def test_a_number_out_of_range_gets_a_sentence(visit):
    page = ready(visit())
    page.locator("[name=seed]").fill("1234567")
    assert message(page) == "seed is 1234567, expected 0..999999."
    page.locator("#std").fill("9")
    page.locator("[name=seed]").fill("7")
    assert message(page) == "std is 9, expected 0.02..2 in steps of 0.01."
    page.locator("#std").fill("0.5")
    settled(page)
    assert message(page) == ""
    page.evaluate(
        """() => {
          const T = document.querySelector("[name=T]")
          T.min = -5
          T.value = -5
          T.dispatchEvent(new Event("input", {bubbles: true}))
        }"""
    )
    assert message(page) == "T is -5, expected an integer of at least 21"


@needs_networks
def test_a_browser_without_webassembly_gets_a_sentence(visit):
    delete = "delete globalThis.WebAssembly"
    page = visit(SECOND, lambda page: page.add_init_script(delete))
    sentence = "This browser has no WebAssembly, which runs the network."
    page.locator("#pictures-message", has_text=sentence).wait_for()
    page.locator("#ddim-told", has_text="spread").wait_for()  # the first half lives


@needs_networks
@pytest.mark.parametrize("fault", ["missing", "offline", "cut short", "another page"])
@pytest.mark.parametrize("file", ["ort.mjs", "ort.wasm", "mnist.json", "mnist.onnx"])
def test_a_file_that_does_not_load_gets_a_sentence(visit, file, fault):
    whole = (PAGE / "dist" / file).read_bytes()
    kind = "text/javascript" if file.endswith("mjs") else "application/octet-stream"
    answer = {
        "missing": lambda route: route.fulfill(status=404),
        "offline": lambda route: route.abort(),
        "cut short": lambda route: route.fulfill(
            body=whole[: len(whole) // 2], content_type=kind
        ),
        "another page": lambda route: route.fulfill(
            body="<!doctype html><p>Hello", content_type="text/html"
        ),
    }[fault]
    page = visit(SECOND, lambda page: page.route(f"**/{file}", answer))
    sentence = f"dist/{file} does not load: "
    told = {"missing": "the server says 404.", "offline": "the connection"}
    if not file.endswith("mjs"):
        sentence += told.get(fault, "it is missing or damaged (")
    page.locator("#pictures-message", has_text=sentence).wait_for()
    page.locator("#ddim-told", has_text="spread").wait_for()  # the first half lives
    assert all(line.startswith("Failed to load ") for line in visit.wrong)  # browser's
    visit.wrong.clear()
    page.unroute_all()
    if file.endswith("mjs"):  # a browser may keep a module that it could not read
        page.reload()
        ready(page)
    page.locator("[name=picture_seed]").fill("3")  # once it is there, it works
    page.locator("#film canvas").first.wait_for()
    assert message(page, "pictures") == ""


@needs_networks
def test_the_servers_content_types_do_not_matter(visit):
    def as_text(route):
        body = (PAGE / "dist" / route.request.url.rpartition("/")[2]).read_bytes()
        route.fulfill(body=body, content_type="text/plain")

    def before(page):
        for file in ("ort.wasm", "mnist.json", "mnist.onnx"):
            page.route(f"**/{file}", as_text)

    page = ready(visit(SECOND, before))
    assert message(page, "pictures") == ""


def test_without_javascript_there_is_a_picture(visit):
    page = visit(java_script_enabled=False)
    picture = page.locator("noscript img")
    assert picture.is_visible() and picture.bounding_box()["height"] > 100


# ------------------------------------------------------------------- looks and sizes


@needs_networks
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window(visit, width, scheme):
    size = {"width": width, "height": 844}
    page = ready(visit(SECOND, viewport=size, color_scheme=scheme))
    page.screenshot(path=SHOTS / f"{width}-{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red, *_ = map(int, ground.strip("rgb()").split(","))
    assert (red > 200) == (scheme == "light")


@needs_networks
def test_the_page_is_small_and_loads_no_network_unasked(visit):
    sizes = {}

    def before(page):
        page.on("response", lambda r: sizes.update({r.url: len(r.body())}))

    page = ready(visit("", before))
    idle(page)
    first = {url: size for url, size in sizes.items() if not url.startswith("data:")}
    print(f"{sum(first.values()) / 1000:.0f} kB in {len(first)} files")
    assert 20_000 < sum(first.values()) < 200_000
    assert not any("/dist/" in url for url in first)
    names = {url.rpartition("/")[2] for url in first}
    scripts = {path.name for path in PAGE.glob("*.js")} - {"build.js"}
    preloaded = page.locator("link[rel=modulepreload]").evaluate_all(
        "all => all.map((link) => link.getAttribute('href'))"
    )
    assert scripts == {name for name in names if name.endswith(".js")}
    assert scripts == {"main.js", *preloaded}

    page.locator("#pictures-open summary").click()
    page.locator("#film canvas").first.wait_for()
    loaded = {url.rpartition("/")[2]: n for url, n in sizes.items() if url not in first}
    loaded = {name: n for name, n in loaded.items() if not name.startswith("data:")}
    assert loaded.keys() == {"ort.mjs", "ort.wasm", "mnist.json", "mnist.onnx"}
    assert loaded["mnist.onnx"] < 1.5e6  # float16
