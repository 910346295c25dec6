"""Write the reference: a page for each file of the package, in `READING_ORDER`.

A docstring is plain text: paragraphs, lines set in by four spaces (formulas), lists in
columns, and examples for a Python console. Each page ends with the file itself.
"""

import importlib
import inspect
import pkgutil
import re
import shutil
import textwrap
from itertools import groupby

import nanodiff

MARKS = re.compile(r"([\\*_{}\[\]<>#|$~^])")  # what Markdown would take for its own
CODE = re.compile(r"(`[^`]+`)")
ABOUT = """# Reference

Every file of the package in the order in which it is read: a file uses only what stands
above it. A page has what the file says of itself, its functions, and its source.
"""


def write(folder):
    """Write `index.md` and a page for each file to `folder`, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    index = [ABOUT]
    for part, names in nanodiff.READING_ORDER:
        found = [module for name in names for module in modules(name)]
        rows = [f"| [{short(m)}]({short(m)}.md) | {text(summary(m))} |" for m in found]
        tree = [f"{short(m)}.md" for m in found]
        index += [f"## {part}\n", "| | |", "|---|---|", *rows, ""]
        index += ["```{toctree}", ":hidden:", "", *tree, "```", ""]
        for module in found:
            (folder / f"{short(module)}.md").write_text(page(module), encoding="utf-8")
    (folder / "index.md").write_text("\n".join(index), encoding="utf-8")


def modules(name):
    """The module of a name, and those inside, if it is a folder."""
    module = importlib.import_module(f"nanodiff.{name}")
    yield module
    for found in pkgutil.iter_modules(getattr(module, "__path__", [])):
        if not found.name.startswith("_"):
            yield importlib.import_module(f"{module.__name__}.{found.name}")


def short(module):
    return module.__name__.removeprefix("nanodiff.")


def summary(module):
    return module.__doc__.strip().partition("\n")[0]


def page(module):
    """The page of a module, in MyST Markdown."""
    lines = [f"# {short(module)}\n", f"```{{py:module}} {module.__name__}\n```\n"]
    lines += markdown(module.__doc__)
    for name, value in vars(module).items():
        if is_public(module, name, value):
            lines += entry(f"{module.__name__}.{name}", value)
    source = inspect.getsource(module)
    return "\n".join([*lines, "## The file\n", "`````python", source, "`````", ""])


def is_public(module, name, value):
    own = getattr(value, "__module__", "") == module.__name__ and name[0] != "_"
    return own and (inspect.isfunction(value) or inspect.isclass(value))


def entry(name, value):
    """A function, or a class with its public methods, as a directive of Sphinx."""
    kind = "class" if inspect.isclass(value) else "function"
    yield from directive(kind, name, value)
    for method, inner in vars(value).items() if kind == "class" else ():
        function = getattr(inner, "__func__", inner)  # of a classmethod
        if method[0] != "_" and inspect.isfunction(function):
            yield from directive("method", f"{name}.{method}", function)


def directive(kind, name, value):
    try:  # a default that is a function has an address in its text
        signature = re.sub(r"<function .*?>", "...", str(inspect.signature(value)))
    except ValueError:  # a plain exception
        signature = ""
    doc = markdown(value.__doc__ or "")
    yield from [f"`````{{py:{kind}}} {name}{signature}\n", *doc, "`````\n"]


def markdown(doc):
    """A docstring as lines of Markdown: what is laid out becomes a block of code."""
    for block in re.split(r"\n\s*\n", inspect.cleandoc(doc)):
        if block.startswith(">>>"):
            yield from ["```pycon", block, "```", ""]
            continue
        for is_laid_out, lines in groupby(block.split("\n"), laid_out):
            if is_laid_out:
                yield from ["```text", textwrap.dedent("\n".join(lines)), "```", ""]
            else:
                yield from [text("\n".join(lines)), ""]


def laid_out(line):
    """Whether a line is set in, or has columns with two spaces or more between them."""
    return line.startswith("    ") or re.search(r"\S {2,}\S", line) is not None


def text(words):
    """Plain words with Markdown's marks escaped, but for `code`."""
    parts = CODE.split(words)
    return "".join(p if CODE.fullmatch(p) else MARKS.sub(r"\\\1", p) for p in parts)
