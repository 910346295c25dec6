"""The lessons as notebooks: each runs, and each check tells right from wrong.

They are read from docs/lessons; nothing of them is copied here.
"""

import importlib.util
import re
from pathlib import Path

import pytest

for needed in ("jupytext", "nbclient", "ipykernel"):
    pytest.importorskip(needed, reason=f"needs {needed}: pip install '.[docs]'")

import nbclient  # noqa: E402

DOCS = Path(__file__).parent.parent / "docs"
spec = importlib.util.spec_from_file_location("notebooks", DOCS / "notebooks.py")
notebooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(notebooks)
PATHS = notebooks.paths()
PARTS = (
    "**The question.**", "**What you should know.**", "**Predict.**",
    "## Exercises", "## In one picture", "**In one sentence.**", "**Papers.**",
)  # fmt: skip


def tagged(notebook, tag):
    return [c for c in notebook.cells if tag in c.metadata.get("tags", [])]


def printed(cell):
    """What a cell shows as text."""
    texts = [out.get("text") or out.get("data", {}).get("text/plain", "")
             for out in cell.get("outputs", [])]  # fmt: skip
    return "".join(texts).strip("'\"")


def test_there_are_eight():
    assert [int(path.name[:2]) for path in PATHS] == list(range(1, 9))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_lesson_has_its_parts_in_order(path):
    text = path.read_text(encoding="utf-8")
    places = [text.find(part) for part in PARTS]
    assert -1 not in places and places == sorted(places), places
    assert text.count("<details>") == text.count("</details>") >= 2
    found = notebooks.notebook(path)
    answers, solutions = tagged(found, "answer"), tagged(found, "solution")
    assert len(answers) == len(solutions) in (2, 3)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 6, 7])
def test_what_answers_a_prediction_is_folded(number):
    cells = notebooks.notebook(PATHS[number - 1]).cells
    asked = next(i for i, cell in enumerate(cells) if "**Predict.**" in cell.source)
    after = next(cell for cell in cells[asked:] if cell.cell_type == "code")
    assert after.metadata["jupyter"] == {"outputs_hidden": True}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_links_of_a_notebook_lead_somewhere(path):
    for cell in notebooks.notebook(path).cells:
        for link in re.findall(r"\]\(([^)]*)\)", cell.source):
            name = link.partition("#")[0]
            if name.startswith("attachment:"):
                assert name.partition(":")[2] in cell.attachments
            elif name.endswith(".ipynb"):
                assert (DOCS / "lessons" / name).with_suffix(".md").exists(), link
            elif name.startswith("file:"):
                assert Path(name.removeprefix("file://")).exists(), link


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_its_checks_tell_right_from_wrong(path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress")
    found = notebooks.notebook(path)
    where = {"metadata": {"path": str(path.parent)}}
    nbclient.NotebookClient(
        found, timeout=600, kernel_name="python3", resources=where
    ).execute()
    for cell in tagged(found, "answer"):
        assert printed(cell).startswith("not yet: "), cell.source
    for cell in tagged(found, "solution"):
        assert printed(cell) == "right", cell.source
    figures = [
        o
        for c in found.cells
        for o in c.get("outputs", [])
        if "image/png" in o.get("data", {})
    ]
    assert figures
