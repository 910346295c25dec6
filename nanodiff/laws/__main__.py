"""python -m nanodiff.laws my_module:sample --alpha-bar my_module:alphas_cumprod"""

import argparse
import ast
import importlib
import os
import sys

from nanodiff.laws.diffusers import check_scheduler
from nanodiff.laws.samplers import check_sampler


def main(words=None):
    """Check what the command line names; return 1 if a law is broken, 2 if none was."""
    parser = argparse.ArgumentParser("python -m nanodiff.laws", description=__doc__)
    add = parser.add_argument
    add("sample", nargs="?", help="module:name of sample(model, shape)")
    add("options", nargs="*", metavar="option=value", help="with --diffusers")
    add("--alpha-bar", help="module:name of a table, or of a function t -> (a, b)")
    add("--predicts", default="eps", help="eps, x0, v, flow or score")
    add("--steps", type=int, help="how many; sample(model, shape, steps)")
    add("--diffusers", metavar="NAME", help="a scheduler of diffusers")
    given = parser.parse_args(words)
    if not given.diffusers and not (given.sample and given.alpha_bar):
        parser.error("expected module:sample with --alpha-bar")
    try:
        if given.diffusers:
            pairs = [*filter(None, [given.sample]), *given.options]
            config = dict(_pair(word) for word in pairs)
            report = check_scheduler(given.diffusers, given.steps or 50, **config)
        else:
            sample, table = named(given.sample), named(given.alpha_bar)
            how = {"predicts": given.predicts, "steps": given.steps}
            report = check_sampler(sample, table, **how)
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
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):  # a word
        return name, value


if __name__ == "__main__":
    sys.exit(main())
