"""Make a Jupyter notebook of each lesson.

    python docs/notebooks.py [FOLDER]      FOLDER is docs/_build/notebooks if not given

A lesson is a text notebook (MyST Markdown). Its folds stay folds; links lead to the
other notebooks; pictures are attached; what the site hides is folded in JupyterLab,
too.
"""

import base64
import re
import sys
from pathlib import Path

import jupytext

LESSONS = Path(__file__).resolve().parent / "lessons"
PACKAGE = LESSONS.parent.parent / "nanodiff"
FOLDED = {  # by the site's tags: what JupyterLab folds
    "hide-input": {"source_hidden": True},
    "hide-output": {"outputs_hidden": True},
    "hide-cell": {"source_hidden": True, "outputs_hidden": True},
}
LINK = re.compile(r"\]\((?!http)([^)#]*)(#[^)]*)?\)")
PICTURE = re.compile(r"!\[([^]]*)\]\((?!http)([^)]*\.png)\)")


def paths():
    """The lessons, in order."""
    return sorted(LESSONS.glob("0*.md"))


def notebook(path):
    """The notebook of a lesson."""
    found = jupytext.reads(path.read_text(encoding="utf-8"), fmt="md:myst")
    for cell in found.cells:
        if cell.cell_type == "markdown":
            attach(path, cell)
            cell.source = LINK.sub(lambda m: f"]({elsewhere(path, m)})", cell.source)
        for tag in cell.metadata.get("tags", []):
            if tag in FOLDED:
                cell.metadata["jupyter"] = FOLDED[tag]
    return found


def attach(path, cell):
    """Put the pictures that a cell links to into the cell."""
    for _, name in PICTURE.findall(cell.source):
        file = path.parent / name
        content = base64.b64encode(file.read_bytes()).decode()
        cell.setdefault("attachments", {})[file.name] = {"image/png": content}
        cell.source = cell.source.replace(f"]({name})", f"](attachment:{file.name})")


def elsewhere(path, link):
    """Where a link of a lesson leads from a notebook: to another, or to the file."""
    name, anchor = link[1], link[2] or ""
    if name.startswith("attachment:"):
        return name
    target = (path.parent / name).resolve()
    if (
        target.parent.name == "reference"
    ):  # pages that only the site has: the file itself
        target = PACKAGE / target.with_suffix(".py").name
    if target in paths():
        return target.with_suffix(".ipynb").name + anchor
    return target.as_uri() + anchor


def write(folder):
    """Write the notebook of each lesson to a folder, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for path in paths():
        written.append(folder / path.with_suffix(".ipynb").name)
        jupytext.write(notebook(path), written[-1])
    return written


if __name__ == "__main__":
    where = (
        Path(sys.argv[1]) if len(sys.argv) > 1 else LESSONS.parent / "_build/notebooks"
    )
    for path in write(where):
        print(path)
