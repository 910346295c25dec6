"""Check a sampler that somebody else wrote, and draw what each of its steps does.

python examples/check_a_sampler.py             a second or two
python examples/check_a_sampler.py --quick     the same without the timings

The sampler below is DDIM over 20 of 100 times, once as it should be and once with steps
that are one time long. Expect "nothing is broken" and "joins ... BROKEN", and steps.png
with c0, ce and sigma of both.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from nanodiff import laws, viz

T = 100
alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, T) * (1000 / T))


def sampler(previous):
    """A stranger's loop, which knows nothing of nanodiff. previous(t): where to go."""

    def sample(model, shape, steps=20, eta=0.5):
        x = np.random.randn(*shape)
        times = np.linspace(0, T - 1, steps).round().astype(int)[::-1]
        for i, t in enumerate(times):
            s = previous(t, times, i)
            ab, ab_s = alpha_bar[t], alpha_bar[s] if s >= 0 else 1.0
            eps = model(x, t)
            x0 = (x - np.sqrt(1 - ab) * eps) / np.sqrt(ab)
            sigma = eta * np.sqrt((1 - ab_s) / (1 - ab) * (1 - ab / ab_s))
            x = np.sqrt(ab_s) * x0 + np.sqrt(1 - ab_s - sigma**2) * eps
            x = x + sigma * np.random.randn(*shape)
        return x

    return sample


def next_of_list(t, times, i):
    return times[i + 1] if i + 1 < len(times) else -1


def one_time_long(t, times, i):
    return t - 1


def save_figure(path, reports):
    """c0, ce and sigma of each step, at the time where the model is called next."""
    figure = viz.Figure(figsize=(9, 3.6), layout="constrained")
    grid, t = figure.subplots(1, len(reports), sharey=True), np.arange(T)
    for axes, (name, report) in zip(grid, reports.items(), strict=True):
        axes.plot(t, np.sqrt(alpha_bar), color="tab:blue", lw=0.8, label="a")
        axes.plot(t, np.sqrt(1 - alpha_bar), color="tab:orange", lw=0.8, label="b")
        steps = report.steps[:-1]
        s = [step.s for step in steps]
        axes.plot(
            s, [step.c0 for step in steps], "o", color="tab:blue", ms=4, label="c0"
        )
        both = [np.hypot(step.ce, step.sigma) for step in steps]
        axes.plot(s, both, "o", color="tab:orange", ms=4, label="root of ce² + sigma²")
        axes.plot(
            s, [step.ce for step in steps], "x", color="tab:green", ms=4, label="ce"
        )
        axes.plot(
            s, [step.sigma for step in steps], "+", color="tab:red", label="sigma"
        )
        made = f"{report.mean:.3f} / {report.std:.3f}"
        axes.set(title=f"{name}: N(0.3, 0.5²) comes out as {made}", xlabel="t")
        axes.title.set_size("medium")
        axes.grid(alpha=0.3)
    grid[1].legend(fontsize="small", loc="center right")
    figure.savefig(path, dpi=100)


def seconds(T):
    """How long DDPM with T calls takes to be checked; the best of three."""
    beta = np.linspace(1e-4, 0.02, T) * (1000 / T)
    table, best = np.cumprod(1 - beta), np.inf

    def ddpm(model, shape):
        x = np.random.randn(*shape)
        for t in range(T - 1, -1, -1):
            before = table[t - 1] if t else 1.0
            x = x - beta[t] / np.sqrt(1 - table[t]) * model(x, t)
            x = x / np.sqrt(1 - beta[t])
            sigma = np.sqrt(beta[t] * (1 - before) / (1 - table[t]))
            x = x + sigma * np.random.randn(*shape)
        return x

    for _ in range(3):
        start = time.perf_counter()
        laws.check_sampler(ddpm, table).check()
        best = min(best, time.perf_counter() - start)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/laws"), help="a folder")
    parser.add_argument("--quick", action="store_true", help="no timings")
    args = parser.parse_args()
    viz.folder(args.out)
    reports = {}
    for name, previous in (("right", next_of_list), ("one time long", one_time_long)):
        reports[name] = laws.check_sampler(sampler(previous), alpha_bar)
        print(reports[name])
        print("nothing is broken\n" if not reports[name].broken else "")
    save_figure(args.out / "steps.png", reports)
    print(f"made {args.out / 'steps.png'}")
    if not args.quick:
        for n in (50, 200, 1000):
            print(f"DDPM with T = {n}: {seconds(n):.2f} s")


if __name__ == "__main__":
    main()
