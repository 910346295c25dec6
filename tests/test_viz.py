"""Figures for a notebook, and the files that are made of them."""

import numpy as np
import pytest
from PIL import Image

from nanodiff import viz
from nanodiff.schedule import cosine, linear, zero_terminal


@pytest.mark.parametrize("C", [1, 3])
def test_what_is_shown_is_the_sheet(rng, C):
    images = rng.uniform(-1, 1, (6, C, 4, 4)).astype(np.float32)
    figure = viz.show(images, columns=3, titles=["up", "down"])
    (axes,) = figure.axes
    shown = axes.images[0].get_array()
    np.testing.assert_array_equal(shown, viz.sheet(images, 3, scale=1))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["up", "down"]


@pytest.mark.parametrize("title", ["8", "half 3, half 8", "blown up, as it is"])
def test_a_title_beside_a_row_is_not_cut(title):
    figure = viz.show(np.zeros((40, 1, 28, 28)), columns=10, titles=[title] * 4)
    figure._repr_png_()
    for label in figure.axes[0].get_yticklabels():
        edge = label.get_window_extent()
        assert 0 <= edge.x0 and edge.x1 <= figure.axes[0].get_window_extent().x0


@pytest.mark.parametrize("n, columns", [(1, 1), (6, 3), (7, 7), (16, 4)])
def test_without_columns_a_sheet_is_nearly_square(n, columns):
    picture = viz.show(np.zeros((n, 1, 4, 4))).axes[0].images[0].get_array()
    assert picture.shape == (n // columns * 6, columns * 6)


def test_a_loss_has_its_steps_their_mean_and_what_was_held_out():
    (axes,) = viz.loss(np.arange(1.0, 251), [(100, 3.0), (250, 2.0)]).axes
    batch, smooth, held_out = (line.get_ydata() for line in axes.lines)
    assert list(batch) == list(range(1, 251)) and list(held_out) == [3.0, 2.0]
    assert smooth[0] == 1 and smooth[249] == np.mean(np.arange(151, 251))


def test_schedules_are_drawn_where_their_logarithm_exists():
    named = {"linear": linear(50), "cosine": cosine(80),
             "to zero": zero_terminal(linear(50))}  # fmt: skip
    left, right = viz.schedules(named).axes
    for line, log, (name, schedule) in zip(
        left.lines, right.lines, named.items(), strict=True
    ):
        np.testing.assert_array_equal(line.get_ydata(), schedule.alpha_bar)
        assert line.get_label() == name and np.isfinite(log.get_ydata()).all()
        np.testing.assert_allclose(10 ** log.get_ydata()[0], schedule.snr[1])


def test_lines_are_the_values_on_the_axes_that_were_asked_for():
    curves = {"fast": ([1, 10, 100], [3.0, 2.0, 1.0]), "slow": ([1, 10], [3.0, 2.5])}
    (axes,) = viz.lines(curves, "calls", "error", log="x").axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("calls", "error")
    for line, (name, (x, y)) in zip(axes.lines, curves.items(), strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_xydata(), np.transpose([x, y]))


def test_points_and_arrows_are_where_they_belong(rng):
    sets = {"one": rng.uniform(-1, 1, (5, 2)), "other": rng.uniform(-1, 1, (3, 2))}
    for axes, (name, xy) in zip(viz.points(sets).axes, sets.items(), strict=True):
        assert axes.get_title() == name
        np.testing.assert_allclose(axes.collections[0].get_offsets(), xy)
    (axes,) = viz.fields({"to 0": lambda xt, t: t * xt}, [3]).axes
    arrows = axes.collections[0]
    np.testing.assert_allclose(arrows.U, -3 * arrows.X)
    np.testing.assert_allclose(arrows.V, -3 * arrows.Y)


def test_a_grid_has_a_sheet_in_each_place(rng):
    rows = {a: {b: rng.uniform(-1, 1, (2, 1, 4, 4)) for b in "xy"} for a in "pqr"}
    found = iter(viz.grid(rows, columns=2).axes)
    for row in rows.values():
        for name, images in row.items():
            axes = next(found)
            assert axes.get_title() == name
            shown = axes.images[0].get_array()
            np.testing.assert_array_equal(shown, viz.sheet(images, 2, scale=1))


def test_the_upper_axis_has_calls_times_the_seconds_of_a_call():
    curves = {
        "few": ([5, 10], [9.0, 6.0], [1.0, 0.5]),
        "one": ([5, 10], [8, 4], [1, 1]),
    }
    figure = viz.quality(curves, floor=3, n=500, seconds=0.25)
    (axes,), (upper,) = figure.axes, figure.axes[0].child_axes
    figure._repr_png_()  # limits follow when it is drawn
    np.testing.assert_allclose(upper.get_xlim(), 0.25 * np.array(axes.get_xlim()))
    assert upper.get_xlabel().endswith("250 ms a call")
    for bars, (calls, distances, errors) in zip(
        axes.containers, curves.values(), strict=True
    ):
        x, y = bars.lines[0].get_data()
        np.testing.assert_allclose(x, calls, rtol=0.02)  # aside of each other
        np.testing.assert_array_equal(y, distances)
        (segments,) = (line.get_segments() for line in bars.lines[2])
        ends = np.array(segments)[:, :, 1]
        np.testing.assert_allclose(np.ptp(ends, axis=1), 4 * np.array(errors))


def test_a_notebook_shows_a_figure_by_itself(rng):
    figures = (viz.show(rng.uniform(-1, 1, (2, 3, 4, 4))), viz.loss([1.0, 0.5]),
               viz.schedules({"linear": linear(50)}))  # fmt: skip
    for figure in figures:
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_files_are_written_and_nothing_beside_them(tmp_path, rng):
    images = rng.uniform(-1, 1, (4, 3, 8, 8))
    viz.save_loss(tmp_path / "loss.png", [1.0, 0.5], [(2, 0.7)])
    viz.save_sheet(tmp_path / "sheet.png", images, 2)
    viz.save_film(tmp_path / "film.gif", [images, images / 2], 2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["film.gif", "loss.png", "sheet.png"]
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 2 and film.size == (20, 20)
