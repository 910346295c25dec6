"""Pictures: sheets of images, films of sampling, the loss curve.

Images are arrays (n, C, H, W) in [-1, 1], C = 1 or 3. Files are written beside their
place and then renamed.
"""

import io
import tempfile
import types
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from nanodiff import check, files


def folder(path):
    """Return a folder to write to, made if it is missing.

    Raises ValueError, before anything is computed, if nothing can be written there.

    >>> folder(__file__)
    Traceback (most recent call last):
        ...
    ValueError: out is ..., expected a folder that can be written to
    """
    path = Path(check.path("path", path))
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        message = f"out is {str(path)!r}, expected a folder that can be written to"
        raise ValueError(message) from error


def sheet(images, columns, scale=2):
    """Return one uint8 picture of all images, row by row, each pixel scale x scale.

    Values are mapped from [-1, 1] to 0..255 with the same scale for all, and clipped,
    so that saturation shows. Raises ValueError if the last row would not be full, and
    says how many values are NaN or infinite, if any are.

    >>> sheet(np.zeros((6, 1, 28, 28)), columns=3).shape
    (120, 180)
    """
    images = check.finite("images", check.array("images", images, ("n", "C", "H", "W")))
    columns = check.integer("columns", columns, 1)
    scale = check.integer("scale", scale, 1, 100)
    n, C, H, W = images.shape
    if C not in (1, 3) or n % columns:
        raise ValueError(
            f"images has shape {images.shape}, expected 1 or 3 channels and a "
            f"multiple of columns, {columns}"
        )
    pixels = np.clip((images + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)
    pixels = np.pad(pixels, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=64)
    rows = pixels.reshape(n // columns, columns, C, H + 2, W + 2)
    picture = rows.transpose(0, 3, 1, 4, 2).reshape(-1, columns * (W + 2), C)
    picture = picture.repeat(scale, 0).repeat(scale, 1)
    return picture[:, :, 0] if C == 1 else picture


def save_sheet(path, images, columns, scale=2):
    """Write a sheet of images as a PNG."""
    _check_picture(path)
    _write(path, Image.fromarray(sheet(images, columns, scale)).save)


def save_film(path, frames, columns, scale=1, hold=2.0):
    """Write an animated GIF of four seconds, the last frame held for `hold` more.

    Sixty-four colours: noise does not compress, and a film should not weigh megabytes.
    """
    _check_picture(path, ".gif")
    hold = check.number("hold", hold, 0, 600)
    frames = _some("frames", frames)
    for images in frames:
        check.array("frames", images, ("n", "C", "H", "W"))
    sheets = [sheet(images, columns, scale) for images in frames]
    pictures = [Image.fromarray(pixels).quantize(64) for pixels in sheets]
    each = 4000 // len(pictures)  # milliseconds
    durations = [each] * (len(pictures) - 1) + [int(1000 * hold)]
    _write(path, pictures[0].save, save_all=True, append_images=pictures[1:],
           duration=durations, loop=0)  # fmt: skip


class _Shown(Figure):
    """A figure that a notebook shows by itself: without pyplot it is asked for this."""

    def _repr_png_(self):
        file = io.BytesIO()
        self.savefig(file, dpi=100)
        return file.getvalue()


def show(images, columns=None, scale=3, titles=None):
    """Return a figure with a sheet of images, which a notebook shows by itself.

    columns: None: as square as it can be without an empty place. titles: of the rows.

    >>> show(np.zeros((8, 3, 16, 16)), columns=4).axes[0].images[0].get_size()
    (36, 72)
    """
    images = check.array("images", images, ("n", "C", "H", "W"))
    n, scale = len(images), check.number("scale", scale, 0.01, 100)
    if columns is None:
        columns = min(c for c in range(1, n + 1) if n % c == 0 and c * c >= n)
    picture = sheet(images, columns, scale=1)
    rows = n // columns
    titles = [] if titles is None else _some("titles", titles, rows)
    titles = [check.instance("titles", title, str) for title in titles]
    high, wide = np.array(picture.shape[:2]) * scale / 100
    beside = max((0.15 + 0.085 * len(title) for title in titles), default=0)  # inches
    figure = _Shown(figsize=(wide + beside, high), layout="constrained")
    axes = figure.subplots()
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    at = (np.arange(len(titles)) + 0.5) * picture.shape[0] / rows
    axes.set_yticks(at, titles)
    axes.set(xticks=[])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def loss(losses, held_out=()):
    """Return a figure of the loss: of each step, and the mean of its last hundred.

    held_out: pairs (step, loss) of data that were kept out of the training.
    """
    losses = check.series("losses", losses)
    if not isinstance(held_out, list | tuple) or held_out:
        held_out = check.series("held_out", held_out, ("n", 2))
    figure = _Shown(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(losses, color="0.8", linewidth=0.5, label="a batch")
    smooth = [np.mean(losses[max(0, i - 99) : i + 1]) for i in range(len(losses))]
    axes.semilogy(smooth, color="tab:blue", label="mean of 100")
    if len(held_out):
        axes.semilogy(*zip(*held_out, strict=True), "o-", color="tab:orange",
                      markersize=4, label="held out, averaged weights")  # fmt: skip
    axes.set(xlabel="step", ylabel="mean squared error")
    axes.legend()
    return figure


def schedules(named):
    """Return a figure of alpha_bar and log10 SNR over t / T: {name: Schedule}.

    >>> from nanodiff.schedule import linear
    >>> len(schedules({"linear": linear(100)}).axes)
    2
    """
    figure = _Shown(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, schedule in check.entries("named", named):
        check.thing(f"named[{name!r}]", schedule, "a Schedule", "T", "alpha_bar", "snr")
        u = np.arange(schedule.T + 1) / schedule.T
        left.plot(u, schedule.alpha_bar, label=name)
        seen = np.isfinite(schedule.snr) & (schedule.snr > 0)  # for the log
        right.plot(u[seen], np.log10(schedule.snr[seen]), label=name)
    left.set(xlabel="t / T", ylabel="alpha_bar")
    right.set(xlabel="t / T", ylabel="log10 of the signal-to-noise ratio")
    left.legend()
    return figure


def save_loss(path, losses, held_out=()):
    """Write `loss` as a PNG."""
    _check_picture(path)
    _write(path, loss(losses, held_out).savefig, dpi=120)


def _write(path, save, **options):
    content = io.BytesIO()  # Pillow does not notice that a disk takes half of a file
    content.name = str(path)  # which tells Pillow the format
    save(content, **options)
    files.write(path, content.getbuffer())


def lines(curves, xlabel, ylabel, log=""):
    """Return a figure of lines: {label: (x, y)}.

    log: "x", "y" or "xy" for logarithmic axes, on which values are above 0.

    >>> figure = lines({"a": ([1, 2], [3, 4]), "b": ([1, 2], [4, 3])}, "t", "loss")
    >>> len(figure.axes[0].lines)
    2
    """
    log = check.choice("log", log, ("", "x", "y", "xy"))
    _check_curves(curves, above=0 if log else None)
    figure = _Shown(figsize=(6.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for label, (x, y) in curves.items():
        few = "o-" if len(x) < 20 else "-"
        axes.plot(x, y, few, markersize=4, label=label)
    axes.set(xlabel=check.instance("xlabel", xlabel, str),
             ylabel=check.instance("ylabel", ylabel, str),
             xscale="log" if "x" in log else "linear",
             yscale="log" if "y" in log else "linear")  # fmt: skip
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def points(sets):
    """Return a figure of points in the plane: {title: (n, 2)}, side by side.

    >>> len(points({"ring": np.zeros((3, 2)), "moons": np.zeros((3, 2))}).axes)
    2
    """
    sets = [(name, check.series(f"sets[{name!r}]", xy, ("n", 2)))
            for name, xy in check.entries("sets", sets)]  # fmt: skip
    figure = _Shown(figsize=(2.4 * len(sets), 2.7), layout="constrained")
    grid = figure.subplots(1, len(sets), squeeze=False, sharex=True, sharey=True)[0]
    for axes, (name, xy) in zip(grid, sets, strict=True):
        axes.scatter(*xy.T, s=1, alpha=0.4, color="tab:blue")
        axes.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal")
        axes.set_title(name, fontsize="medium")
    return figure


def save_points(path, sets):
    """Write a PNG of points above samples: sets is {name: (points, samples)}."""
    _check_picture(path)
    for name, pair in check.entries("sets", sets):
        for points in _some("sets", pair, 2):
            check.series(f"sets[{name!r}]", points, ("n", 2))
    figure = Figure(figsize=(2.6 * len(sets), 5.4), layout="constrained")
    grid = figure.subplots(2, len(sets), squeeze=False, sharex=True, sharey=True)
    for column, (name, pair) in enumerate(sets.items()):
        for axes, points, kind in zip(
            grid[:, column], pair, ("data", "samples"), strict=True
        ):
            axes.scatter(*points.T, s=1, alpha=0.4, color="tab:blue")
            axes.set(title=f"{name}: {kind}", xlim=(-1.7, 1.7), ylim=(-1.7, 1.7))
            axes.set_aspect("equal")
    _write(path, figure.savefig, dpi=110)


def fields(models, times):
    """Return a figure of the directions -eps_hat in the plane, a column for each time.

    models: {name: model(xt, t)}, a row for each.

    >>> len(fields({"away from 0": lambda xt, t: -xt}, [9, 3]).axes)
    2
    """
    models, times = check.entries("models", models), check.integers("times", times, 1)
    for name, model in models:
        check.function(f"models[{name!r}]", model, takes=2)
    figure = _Shown(figsize=(2.6 * len(times), 2.7 * len(models)), layout="constrained")
    grid = figure.subplots(len(models), len(times), squeeze=False, sharex=True,
                           sharey=True)  # fmt: skip
    line = np.linspace(-2, 2, 19, dtype=np.float32)
    at = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    for row, (name, model) in zip(grid, models, strict=True):
        for axes, t in zip(row, times.tolist(), strict=True):
            away = check.series(f"models[{name!r}]", model(at, t), at.shape)
            axes.quiver(*at.T, *-away.T, np.hypot(*away.T), cmap="viridis", scale=40)
            axes.set(title=f"{name}, t = {t}", aspect="equal")
    return figure


def save_fields(path, learned, exact, times):
    """Write `fields` of two models as a PNG."""
    _check_picture(path)
    models = {"learned": check.function("learned", learned, takes=2),
              "exact": check.function("exact", exact, takes=2)}  # fmt: skip
    _write(path, fields(models, times).savefig, dpi=110)


def save_orders(path, curves, xlabel, ylabel):
    """Write a log-log PNG: curves is {label: (x, y)}, each with its fitted slope."""
    _check_picture(path)
    _check_curves(curves, above=0)
    slopes = {
        f"{label}, slope {np.polyfit(np.log(x), np.log(y), 1)[0]:.2f}": (x, y)
        for label, (x, y) in curves.items()
    }
    _write(path, lines(slopes, xlabel, ylabel, log="xy").savefig, dpi=110)


def quality(curves, floor, n, seconds):
    """Return a log-log figure of Frechet distance over calls of the network.

    curves: {sampler: (calls for each digit, distances, their standard errors)}. floor:
    the distance of real digits. n: of digits, for the title. seconds: of a call for 100
    digits, which makes the upper axis. Bars are two standard errors long on each side;
    samplers stand a little aside of each other, so that the bars can be told apart.

    >>> figure = quality({"DDIM": ([5, 10], [9, 6], [1, 1])}, 3, n=500, seconds=0.1)
    >>> figure.axes[0].get_title()
    '500 digits'
    """
    _check_curves(curves, lists=3, above=0)
    floor, n = check.number("floor", floor, above=0), check.integer("n", n, 1)
    seconds = check.number("seconds", seconds, above=0)
    figure = _Shown(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    for i, (label, (calls, distances, errors)) in enumerate(curves.items()):
        aside = np.asarray(calls) * 1.02 ** (i - (len(curves) - 1) / 2)
        axes.errorbar(aside, distances, 2 * np.asarray(errors), fmt="o-", markersize=4,
                      capsize=2, label=label)  # fmt: skip
    axes.axhline(floor, color="0.5", linestyle="--", label="real digits")
    axes.set(xscale="log", yscale="log", title=f"{n} digits",
             xlabel="calls of the network for each digit (steps)",
             ylabel="Frechet distance to real digits")  # fmt: skip
    calls = sorted({n for found in curves.values() for n in found[0]})
    axes.set_xticks(calls, [f"{n:g}" for n in calls])
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    upper = axes.secondary_xaxis(
        "top", functions=(lambda calls: calls * seconds, lambda time: time / seconds)
    )
    short = [np.format_float_positional(n * seconds, 2, fractional=False, trim="-")
             for n in calls]  # fmt: skip
    upper.set_xticks(np.multiply(calls, seconds), short)
    upper.xaxis.set_minor_formatter("")
    upper.set_xlabel(f"seconds for 100 digits, {1000 * seconds:.0f} ms a call")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def save_quality(path, curves, floor, n, seconds):
    """Write `quality` as a PNG."""
    _check_picture(path)
    _write(path, quality(curves, floor, n, seconds).savefig, dpi=110)


def grid(rows, columns):
    """Return a figure of sheets with names: rows is {name: {name of column: images}}.

    columns: of images in each sheet.

    >>> images = np.zeros((4, 1, 8, 8))
    >>> len(grid({"DDPM": {"5 steps": images, "9 steps": images}}, columns=2).axes)
    2
    """
    columns = check.integer("columns", columns, 1)
    cells = [check.entries("rows", row) for _, row in check.entries("rows", rows)]
    across = len(cells[0])
    if any(len(row) != across for row in cells):
        check.refuse("rows", [len(row) for row in cells], "as many entries in each")
    size = (1.6 * across + 0.4, 0.75 * len(rows) + 0.3)
    figure = _Shown(figsize=size, layout="constrained")
    places = figure.subplots(len(rows), across, squeeze=False)
    for line, (name, cells) in zip(places, rows.items(), strict=True):
        line[0].set_ylabel(name.replace(" = ", "\n= "), fontsize=6)
        for axes, (title, images) in zip(line, cells.items(), strict=True):
            axes.imshow(sheet(images, columns, scale=1), cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            axes.set_title(title, fontsize=7)
    return figure


def save_grid(path, rows, columns):
    """Write `grid` as a PNG."""
    _check_picture(path)
    _write(path, grid(rows, columns).savefig, dpi=150)


def _some(name, values, n=None):
    """A list of n values, or of at least one."""
    many = list | tuple | np.ndarray | types.GeneratorType
    if not isinstance(values, many) or getattr(values, "ndim", 1) == 0:
        check.refuse(name, values, "a list")
    values = list(values)
    if not values or n not in (None, len(values)):
        check.refuse(name, values, f"a list of {n or 'at least one'}")
    return values


def _check_picture(path, suffix=".png"):
    found = Path(check.path("path", path))
    if found.suffix != suffix or not found.parent.is_dir():
        check.refuse("path", str(path), f"{suffix} in a folder that exists")


def _check_curves(curves, lists=2, above=None):
    for label, found in check.entries("curves", curves):
        of = [check.series("curves", line) for line in _some("curves", found, lists)]
        same = {len(line) for line in of} == {len(of[0])} and len(of[0]) > 1
        if not same or (above is not None and min(map(np.min, of)) <= above):
            what = f"{lists} lists{' above 0' * (above is not None)}, 2 points or more"
            check.refuse(f"curves[{label!r}]", found, what)
