"""A bad value of any option of any example ends with the usage, before any work."""

import argparse
import runpy
import sys
from pathlib import Path

import pytest

FIRST = {"train_pictures": ["docs"]}  # what is no option
EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
BAD = ["-1", "0", "nan", "inf", "-inf", "1e400", "1" + 30 * "0", "1.5", "many", ""]
RIGHT = {  # values among these that some options take
    "--seed": ["0"], "--w": ["-1", "0", "1.5"], "--eta": ["0"], "--held-out": ["0"],
    "--focus": ["0", "1.5"], "--min-snr": ["1.5"],
}  # fmt: skip


def parser_of(path, monkeypatch):
    """The parser of an example, and its function `options` (None: it has no values)."""
    made = []

    def remember(self, *given, **more):
        made.append(self)
        return parse(self, *given, **more)

    parse = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", remember)
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.setattr(sys, "argv", [str(path), *FIRST.get(path.stem, [])])
    options = runpy.run_path(str(path)).get("options")
    if options is not None:
        options()
    return (made or [None])[0], options


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_bad_value_of_an_option_ends_with_the_usage(path, monkeypatch, capsys):
    parser, options = parser_of(path, monkeypatch)
    tried = 0
    for action in parser._actions if parser else ():
        if action.type in (None, Path):
            continue
        (option,) = action.option_strings
        n = action.nargs if isinstance(action.nargs, int) else 1
        for value in set(BAD) - set(RIGHT.get(option, [])):
            words = [option, *n * [value]] if n > 1 else [f"{option}={value}"]
            words = [str(path), *FIRST.get(path.stem, []), *words]
            monkeypatch.setattr(sys, "argv", words)
            with pytest.raises(SystemExit) as caught:
                options()
            said = capsys.readouterr().err
            assert caught.value.code == 2 and said.startswith("usage: "), said
            assert option in said, said
            tried += 1
    assert tried or path.stem in ("limits", "check_a_sampler", "check_packages")
