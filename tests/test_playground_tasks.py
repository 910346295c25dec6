"""The five tasks of the playground, from start to end: with keys alone."""

import numpy as np

from nanodiff.trained import judge
from tests.playground_tools import (
    drawn,
    go,
    idle,
    message,
    needs_networks,
    pixels,
    press,
    ready,
    told,
)


def begin_task(page, number, control):
    """By keys: read what to see, then follow the link to the task's first control."""
    go(page, f"aside li:nth-child({number}) summary")
    page.keyboard.press("Enter")
    text = page.locator(f"aside li:nth-child({number}) details p")
    assert text.is_visible() and len(text.inner_text()) > 80
    go(page, f"aside li:nth-child({number}) a", "Shift+Tab")
    page.keyboard.press("Enter")
    page.locator(f"{control}:focus").wait_for()
    if number == 5:
        page.locator("#film canvas").first.wait_for()
    idle(page)
    assert message(page) == message(page, "pictures") == ""


def test_task_1_few_steps_by_keyboard(visit):
    page = ready(visit())
    begin_task(page, 1, "[name=steps]")
    for steps, shares in ((4, (14, 26)), (6, (66, 77)), (10, (97, 97))):
        while page.locator("[name=steps]").input_value() != str(steps):
            press(page, "ArrowRight")
        assert (told(page, "ddpm")[1], told(page, "ddim")[1]) == shares
    press(page, *["ArrowLeft"] * 5)
    go(page, "[name=schedule]", "Shift+Tab")
    press(page, "ArrowDown")
    assert page.locator("[name=schedule]").input_value() == "cosine"
    assert (told(page, "ddpm")[1], told(page, "ddim")[1]) == (97, 96)


def test_task_2_no_added_noise_by_keyboard(visit):
    page = ready(visit())
    begin_task(page, 2, "[name=variance]")
    data = told(page, "data")[0]
    assert told(page, "ddpm")[0] == 0
    assert abs(told(page, "ddim")[0] - data) < 0.05 and data > 0.75
    press(page, "ArrowUp", "ArrowUp")
    assert page.locator("[name=variance]").input_value() == "beta_tilde"
    assert abs(told(page, "ddpm")[0] - data) < 0.05


def test_task_3_another_eta_by_keyboard(visit):
    page = ready(visit())
    begin_task(page, 3, "[name=eta]")
    ends = drawn(page, "ddpm")
    press(page, "Home")
    assert page.locator("[name=eta]").input_value() == "0"
    assert drawn(page, "ddim") != ends
    press(page, "End")
    assert page.locator("[name=eta]").input_value() == "1"
    assert drawn(page, "ddpm") == ends == drawn(page, "ddim")


def test_task_4_one_point_by_keyboard(visit):
    page = ready(visit())
    begin_task(page, 4, "#play")
    guess = {name: told(page, name)[2] for name in ("ddpm", "ddim")}
    assert all(abs(x) < 0.5 for x in guess.values())  # the clouds are at -1 and 1
    page.keyboard.press("Space")
    page.locator("#play", has_text="Pause").wait_for()
    page.keyboard.press("Space")
    page.locator("#play", has_text="Play").wait_for()
    go(page, "[name=frame]")
    page.keyboard.press("Home")
    side = {"ddpm": {}, "ddim": {}}
    for _ in range(101):
        t = int(page.locator("#time").inner_text().removeprefix("t = "))
        for name, seen in side.items():
            seen[t] = told(page, name)[2]
        page.keyboard.press("ArrowRight")
    assert len(side["ddpm"]) == 101 and {1000, 300, 0} < side["ddpm"].keys()
    assert side["ddpm"][300] > 0.2 and side["ddpm"][0] < -0.9
    way = list(side["ddim"].values())
    assert way == sorted(way, reverse=True) and way[-1] < -0.9


def digit(page):
    """The class that the judge reads in x_t."""
    x = np.float32(pixels(page, "xt", 0).split(","))
    return judge()(x.reshape(1, 1, 28, 28) / 127.5 - 1).argmax()


@needs_networks
def test_task_5_half_a_3_half_an_8_by_keyboard(visit):
    page = ready(visit())
    begin_task(page, 5, "[name=w]")
    for w, read in ((2, {2: 3, 6: 8}), (-1, {0: 0, 2: 7, 4: 9})):
        while (now := float(page.locator("[name=w]").input_value())) != w:
            page.keyboard.press("ArrowRight" if now < w else "ArrowLeft")
        for seed, expected in read.items():
            go(page, "[name=picture_seed]")
            page.keyboard.type(str(seed))
            idle(page)
            assert digit(page) == expected
            go(page, "[name=w]", "Shift+Tab")
    # w -1 ignores the context: another class changes nothing
    free = pixels(page, "xt", 0)
    go(page, "[name=c5]")
    press(page, "End")
    assert free == pixels(page, "xt", 0)


def test_clouds_are_drawn_by_keyboard(visit):
    page = ready(visit())
    go(page, "#shapes [value=two]")
    press(page, "Space")
    go(page, "#data", "Shift+Tab")
    before = told(page, "data")
    press(page, "a", "ArrowUp", "ArrowUp", "Shift+ArrowRight", "+")
    clouds = page.locator("[name=mixture]").input_value().split(";")
    assert clouds == ["-1,0,0.25,1", "1,0,0.25,1", "0.5,0.2,0.19,1"]
    assert told(page, "data") != before and told(page, "ddim")[1] > 90
    press(page, "n", "n", "Delete")
    left = page.locator("[name=mixture]").input_value()
    assert left == f"{clouds[0]};{clouds[2]}"
    go(page, "#add")
    press(page, "Enter")
    go(page, "#x", "Shift+Tab")
    page.keyboard.type("-2")
    press(page, "Tab")
    assert page.locator("[name=mixture]").input_value().endswith(";-2,0,0.15,1")
    go(page, "#clear", "Shift+Tab")
    press(page, "Enter")
    assert message(page).startswith("There are no data")
    go(page, "#data", "Shift+Tab")
    press(page, "a")
    assert page.locator("[name=mixture]").input_value() == "0,0,0.15,1"
    assert message(page) == "" and told(page, "ddim")[1] > 90


def test_keys_stop_at_the_limits(visit):
    page = ready(visit("points=50&steps=2&mixture=" + ";".join(["0,0,0.1,1"] * 60)))
    mixture = page.locator("[name=mixture]")
    go(page, "#data")
    press(page, "Control+a")
    assert message(page) == ""
    press(page, "a")
    assert message(page) == "There are 60 clouds, the most."
    assert mixture.input_value().count(";") == 59
    press(page, *["-"] * 10, *["Shift+ArrowRight"] * 7)
    assert mixture.input_value().startswith("3,0,0.02,1;")
    press(page, *["+"] * 25, *["Shift+ArrowDown"] * 7)
    assert mixture.input_value().startswith("3,-3,2,1;")
    assert message(page) == ""


def test_the_link_is_copied_by_keyboard(visit):
    page = ready(visit("steps=7", permissions=["clipboard-read", "clipboard-write"]))
    go(page, "#copy")
    page.keyboard.press("Enter")
    page.locator("#copied", has_text="It is copied.").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.locator("#link").input_value() == page.url
    assert "steps=7&" in link
