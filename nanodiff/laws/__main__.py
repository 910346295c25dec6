"""python -m nanodiff.laws my_module:sample --alpha-bar my_module:alphas_cumprod"""

import argparse
import importlib
import os
import sys

from nanodiff.laws.diffusers import check_scheduler
from nanodiff.laws.samplers import check_sampler


def main(words=None):
    """Check what the command line names; return 1 if a law is broken, 2 if none was."""
    parser = argparse.ArgumentParser("python -m nanodiff.laws", description=__doc__)
    parser.add_argument("sample", nargs="?", help="module:name of sample(model, shape)")
    parser.add_argument(
        "options",
        nargs="*",
        metavar="option=value",
        help="with --diffusers: its configuration",
    )
    parser.add_argument(
        "--alpha-bar", help="module:name of a table, or of a function from t to (a, b)"
    )
    parser.add_argument("--q-sample", help="module:name of q_sample(x0, t, eps)")
    parser.add_argument("--predicts", default="eps", help="eps, x0, v, flow or score")
    parser.add_argument(
        "--steps", type=int, help="how many; sample(model, shape, steps)"
    )
    parser.add_argument("--first", type=int, help="the time of alpha_bar's first entry")
    parser.add_argument(
        "--allow", default="", help="laws that may be broken: ends,joins"
    )
    parser.add_argument("--diffusers", metavar="NAME", help="a scheduler of diffusers")
    given = parser.parse_args(words)
    allow = tuple(law.strip() for law in given.allow.split(",") if law)
    try:
        if given.diffusers:
            pairs = [*filter(None, [given.sample]), *given.options]
            report = check_scheduler(
                given.diffusers,
                given.steps or 50,
                allow=allow,
                **dict(_pair(word) for word in pairs),
            )
        elif given.sample is None or not (given.alpha_bar or given.q_sample):
            parser.error("expected module:sample with --alpha-bar or --q-sample")
        else:
            report = check_sampler(
                named(given.sample),
                given.alpha_bar and named(given.alpha_bar),
                q_sample=given.q_sample and named(given.q_sample),
                predicts=given.predicts,
                steps=given.steps,
                first=given.first,
                allow=allow,
                title=f"{given.sample}:",
            )
    except (ValueError, ImportError, TypeError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print(report)
    return int(bool(report.broken))


def named(text):
    """The object that module:name.of.it stands for; ValueError if there is none."""
    module, colon, path = text.partition(":")
    if not colon:
        raise ValueError(f"{text!r} has no colon, expected module:name")
    sys.path.insert(0, os.getcwd())
    found = importlib.import_module(module)
    for name in path.split("."):
        if not hasattr(found, name):
            raise ValueError(f"{module} has no {path!r}, expected a name in it")
        found = getattr(found, name)
    return found


def _pair(word):
    """name=value, with numbers and True, False, None as such."""
    name, equals, value = word.partition("=")
    if not equals:
        raise ValueError(f"option is {word!r}, expected name=value")
    known = {"True": True, "False": False, "None": None}
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            pass
    return name, known.get(value, value)


if __name__ == "__main__":
    sys.exit(main())
