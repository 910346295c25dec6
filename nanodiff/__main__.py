"""Run an example by its name, also where only the wheel is installed.

python -m nanodiff                          the names
python -m nanodiff sample --classes 2026
python -m nanodiff train FOLDER
"""

import runpy
import sys
from pathlib import Path

SHORT = {"train": "train_pictures"}


def folder():
    """Where the examples lie: in the installed package, or beside it in a clone."""
    inside = Path(__file__).parent / "examples"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "examples"


def commands():
    """Return {name: what `runpy` runs}; laws is a module of the package."""
    found = {path.stem: path for path in sorted(folder().glob("[!_]*.py"))}
    del found["limits"]  # of options; it does nothing by itself
    found |= {short: found[name] for short, name in SHORT.items()}
    if any(Path(__file__).parent.glob("laws*")):
        found["laws"] = "nanodiff.laws"
    return found


def main():
    known, (name, *options) = commands(), sys.argv[1:] or ["-h"]
    if name not in known:
        names = ", ".join(sorted(known))
        print(f"python -m nanodiff NAME [OPTIONS], with a NAME of {names}")
        return 0 if name in ("-h", "--help") else 2
    sys.argv = [name, *options]
    if isinstance(known[name], str):
        runpy.run_module(known[name], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(folder()))  # examples import limits, which lies there
        runpy.run_path(str(known[name]), run_name="__main__")


if __name__ == "__main__":
    sys.exit(main())
