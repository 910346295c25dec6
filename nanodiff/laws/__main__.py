"""python -m nanodiff.laws my_module:sample --alpha-bar my_module:alphas_cumprod"""

import argparse
import ast
import importlib
import os
import sys

from nanodiff.laws.diffusers import check_scheduler
from nanodiff.laws.samplers import check_sampler

OPTIONS = {
    "--alpha-bar": "module:name of a table, or of a function from t to (a, b)",
    "--q-sample": "module:name of q_sample(x0, t, eps)",
    "--predicts": "eps (if not given), x0, v, flow or score",
    "--steps": "how many; sample(model, shape, steps)",
    "--first": "the time of alpha_bar's first entry",
    "--allow": "laws that may be broken: ends,joins",
    "--diffusers": "a scheduler of diffusers; then its option=value",
}


def main(words=None):
    """Check what the command line names; return 1 if a law is broken, 2 if none was."""
    parser = argparse.ArgumentParser("python -m nanodiff.laws", description=__doc__)
    parser.add_argument("sample", nargs="?", help="module:name of sample(model, shape)")
    parser.add_argument("options", nargs="*", metavar="option=value")
    for name, text in OPTIONS.items():
        kind = int if name in ("--steps", "--first") else str
        parser.add_argument(name, help=text, type=kind)
    given = parser.parse_args(words)
    if not given.diffusers and not (
        given.sample and (given.alpha_bar or given.q_sample)
    ):
        parser.error("expected module:sample with --alpha-bar or --q-sample")
    allow = [law.strip() for law in (given.allow or "").split(",") if law]
    try:
        report = _checked(given, allow)
    except (ValueError, ImportError, TypeError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print(report)
    return int(bool(report.broken))


def _checked(given, allow):
    if given.diffusers:
        pairs = [*filter(None, [given.sample]), *given.options]
        config = dict(_pair(word) for word in pairs)
        return check_scheduler(
            given.diffusers, given.steps or 50, allow=allow, **config
        )
    report = check_sampler(
        named(given.sample),
        given.alpha_bar and named(given.alpha_bar),
        q_sample=given.q_sample and named(given.q_sample),
        predicts=given.predicts or "eps",
        steps=given.steps,
        first=given.first,
        allow=allow,
    )
    report.title = f"{given.sample}:"
    return report


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
