"""What the playground shows is what the library computes, from the page's own noise."""

import numpy as np
import pytest

from nanodiff import data, ddim, ddpm, exact, guide, latent, pretrained, schedule
from nanodiff.prediction import limited
from nanodiff.respace import respace
from tests.playground_tools import (
    drawn,
    go,
    idle,
    message,
    needs_networks,
    pixels,
    place,
    press,
    ready,
    told,
)


def noise(page, seed, shape, steps=0):
    """x_T of a seed and each z after it, as the page draws them."""
    drawn = page.evaluate(
        """async ([seed, n, steps]) => {
          const {noise} = await import("./film.js")
          const [xT, rng] = noise(seed, n)
          return [xT, ...Array.from({length: steps}, () => rng.standard_normal(n))]
            .map((x) => [...x])
        }""",
        [seed, int(np.prod(shape)), steps],
    )
    xT, *z = (np.reshape(x, shape) for x in drawn)
    return xT, z


def film(model, of, xT, z, sampler, eta=0.0, variance="beta_tilde", clip=1.0):
    """[(x_t, x0_hat)] of the library from T to 0, in as many steps as there are z."""
    times = ddim.timesteps(of.T, len(z))
    _, short = respace(model, of, len(z))
    xt, frames = xT, []
    for i, added in enumerate(z):
        t, s = times[i : i + 2]
        eps_hat = model(xt, t)
        x0_hat = schedule.predict_x0(of, xt, t, eps_hat)
        frames.append((xt, limited(of, xt, t, x0_hat, eps_hat, clip)[0]))
        if sampler == "ddim":
            xt = ddim.step(of, xt, t, s, eps_hat, eta, added, clip)
        else:
            xt = ddpm.step(short, xt, len(z) - i, eps_hat, added, variance, clip)
    return [*frames, (xt, xt)]


def seen(page, selector):
    """Each canvas as an array (C, H, W) of values in -1..1."""
    canvases = page.evaluate(
        """(selector) => [...document.querySelectorAll(selector)].map((canvas) => {
          const {width, height} = canvas
          const copy = new OffscreenCanvas(width, height)
            .getContext("2d", {willReadFrequently: true})
          copy.drawImage(canvas, 0, 0)
          return [height, width, [...copy.getImageData(0, 0, width, height).data]]
        })""",
        selector,
    )
    return [
        np.reshape(values, (height, width, 4)).transpose(2, 0, 1)[:3] / 127.5 - 1
        for height, width, values in canvases
    ]


def same(found, expected):
    """To half of a level of grey, and the float32 of the network."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, 0 * one + other.clip(-1, 1), atol=0.0045)


@needs_networks
@pytest.mark.parametrize(
    "name, sampler, eta", [("mnist", "ddim", 0.4), ("sprites", "ddpm", 0.0)]
)
def test_the_pictures_shown_are_the_librarys(visit, name, sampler, eta):
    page = ready(
        visit(
            f"open=on&network={name}&sampler={sampler}&picture_steps=4&picture_frame=2"
            f"&picture_eta={eta}&w=1.5&c0=0.5&c3=0&c4=0.25&picture_seed=5&other_seed=8"
            "&fraction=0.3"
        )
    )
    found = pretrained(name)
    found.network.cast(np.float64)
    shape, classes = (1, *found.shape), len(found.classes)
    one_hot = data.one_hot([0, 4], classes).astype(float)
    context = 0.5 * one_hot[:1] + 0.25 * one_hot[1:]
    model = guide(found.model, context, 1.5)
    xT, z = noise(page, 5, shape, steps=4)
    other, _ = noise(page, 8, shape)
    frames = film(model, found.schedule, latent.slerp(xT, other, 0.3), z, sampler, eta)
    same(seen(page, "#xt, #x0_hat"), [x[0] for x in frames[2]])
    same(seen(page, "#film canvas"), [x[0] for frame in frames for x in frame])

    page.locator("#arc").click()
    page.locator("#arc-film canvas").nth(7).wait_for()
    x = np.concatenate([latent.slerp(xT, other, i / 7) for i in range(8)])
    model = guide(found.model, context.repeat(8, 0), 1.5)
    (*_, (_, x)) = ddim.sample(model, found.schedule, x, 4, clip=1.0)
    same(seen(page, "#arc-film canvas"), x)


EDGE = 3.4  # of the plane on a canvas


def shape(page, canvas):
    """Where something is drawn on a canvas, as a square of booleans."""
    values = np.int_(drawn(page, canvas).split(",")) > 0
    side = int(values.size**0.5)
    return values.reshape(side, side)


def near(image, xy):
    """Of each place: is anything drawn there? Of each drawn pixel: is a place there?"""
    side, pixels = len(image), np.argwhere(image)
    at = np.stack([1 - xy[:, 1] / EDGE, xy[:, 0] / EDGE + 1], axis=1) * side / 2
    pixels = pixels[(abs(pixels - (side - 1) / 2) > 2).all(1)]  # without the axes
    away = np.abs(at[:, None] - (pixels + 0.5)).max(2)
    inside = ((at > 2) & (at < side - 2) & (abs(at - side / 2) > 4)).all(1)
    return away[inside].min(1) < 2, away.min(0) < 3


def loneliest(xy):
    """Of the points that are shown, the one that is farthest from all others."""
    away = np.hypot(*(xy[:, None] - xy).T) + 9 * np.eye(len(xy))
    return int((away.min(0) * (abs(xy) < 3).all(1)).argmax())


@pytest.mark.parametrize("variance", ["beta", "none"])
def test_the_points_shown_are_the_librarys(visit, variance):
    page = ready(
        visit(
            "mixture=-1,1.2,0.3,1;1.5,0.5,0.4,2&schedule=cosine&T=500&steps=6&eta=0.5"
            f"&variance={variance}&seed=3&points=50&paths=0&follow=8&frame=2"
        )
    )
    of = schedule.cosine(500)
    model = exact.mixture(of, [[-1, 1.2], [1.5, 0.5]], [0.3, 0.4], [1.0, 2.0])
    xT, z = noise(page, 3, (50, 2), steps=6)
    still = [0 * one for one in z]
    films = {
        "ddpm": film(model, of, xT, z, "ddpm", variance="beta", clip=None)
        if variance == "beta"
        else film(model, of, xT, still, "ddpm", clip=None),
        "ddim": film(model, of, xT, z, "ddim", 0.5, clip=None),
    }
    for name, frames in films.items():
        xt, x0_hat = frames[2]
        text = page.locator(f"#{name}-told").inner_text()
        x, y = x0_hat[7]
        assert text.endswith(f"x0_hat of point 8 at ({x:.2f}, {y:.2f})")
        spread = np.sqrt(xt.var(0).mean())
        assert abs(told(page, name)[0] - spread) < 0.0051
        path = np.stack([frame[0][7] for frame in frames])
        assert near(shape(page, name), path[:3])[0].all()
    go(page, "[name=follow]")
    page.keyboard.type("0")
    idle(page)
    for name, frames in films.items():
        there, known = near(shape(page, name), frames[2][0])
        assert there.all() and known.all()
        first = shape(page, name)
        page.locator("[name=guess]").check()
        middle = (frames[2][0] + frames[2][1]) / 2
        assert near(shape(page, name), middle)[0].all()
        page.locator("[name=guess]").uncheck()
        assert (first == shape(page, name)).all()
    xt, canvas = films["ddim"][2][0], page.locator("#ddim")
    alone = loneliest(xt)
    x, y = place(canvas.bounding_box() | {"x": 0, "y": 0}, *xt[alone])
    canvas.click(position={"x": x, "y": y})
    assert page.locator("[name=follow]").input_value() == str(alone + 1)


def test_paths_end_where_the_points_are(visit):
    page = ready(visit("paths=9&frame=0&steps=8"))
    page.locator("[name=frame]").focus()
    press(page, "Home")
    start = drawn(page, "ddpm")
    press(page, "End")
    end = drawn(page, "ddpm")
    page.locator("[name=paths]").focus()
    press(page, "Home")
    assert drawn(page, "ddpm") != end
    page.locator("[name=frame]").focus()
    press(page, "Home")
    assert drawn(page, "ddpm") == start  # a path has not begun


def test_a_new_work_ends_the_old_one_and_progress_is_shown(visit):
    page = ready(visit("points=1000&steps=10"))
    page.evaluate(
        """() => {
          const bar = document.querySelector("#plane-progress")
          window.shares = []
          new MutationObserver(() => bar.hidden || shares.push(bar.value))
            .observe(bar, {attributes: true})
        }"""
    )
    page.locator("[name=steps]").fill("200")
    idle(page)
    shares = page.evaluate("shares")
    assert shares == sorted(shares) and 0 < shares[0] < shares[-1] <= 1
    page.locator("[name=points]").focus()
    page.locator("[name=steps]").fill("199")
    page.locator("[name=steps]").fill("2")
    idle(page)
    page.wait_for_timeout(3000)
    assert page.locator("[name=frame]").get_attribute("max") == "2"
    assert page.locator("#plane-progress").is_hidden() and message(page) == ""


def test_play_stops_where_the_slider_is_moved_and_the_end_stays_the_end(visit):
    page = ready(visit("steps=100"))
    page.locator("#play").click()
    page.locator("#play", has_text="Pause").wait_for()
    page.locator("[name=frame]").fill("40")
    page.locator("#play", has_text="Play").wait_for()
    page.wait_for_timeout(300)
    assert page.locator("[name=frame]").input_value() == "40"
    page.locator("[name=steps]").fill("50")
    idle(page)
    assert page.locator("[name=frame]").input_value() == "40"
    page.locator("[name=frame]").fill("50")
    page.locator("[name=steps]").fill("120")
    idle(page)
    assert page.locator("[name=frame]").input_value() == "120"


def test_a_window_of_another_size_or_colour_is_drawn_anew(visit):
    page = ready(visit("", color_scheme="light"))
    wide = shape(page, "ddim")
    page.set_viewport_size({"width": 500, "height": 700})
    width = page.evaluate("document.querySelector('#ddim').clientWidth")
    page.locator(f"#ddim[width='{width}']").wait_for()
    narrow = shape(page, "ddim")
    assert len(narrow) == width < len(wide) and narrow.any()
    light = pixels(page, "ddim", 0)
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(300)
    assert light != pixels(page, "ddim", 0)
    assert (shape(page, "ddim") == narrow).all()
