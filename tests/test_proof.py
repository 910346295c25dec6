"""docs/proof.md has a section for each test file and a row for each of its tests."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
SELF_EXPLAINING = "test_bad_input_is_named"  # in nearly every file, needs no row


def named_tests(path):
    """The names of a file's tests, in its order."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [f.name for f in tree.body if isinstance(f, ast.FunctionDef)]
    return [n for n in names if n.startswith("test_") and n != SELF_EXPLAINING]


def gaps(page, tests):
    """Where the page and the tests, {file: names}, differ: a cure for each."""
    sections = re.split(r"^## ", page, flags=re.M)[1:]
    rows = {text.split("\n")[0].strip(): re.findall(r"`(test_\w+)` \|$", text, re.M)
            for text in sections}  # fmt: skip
    rows = {file: named for file, named in rows.items() if file.startswith("tests/")}
    for file in sorted(tests.keys() - rows.keys()):
        yield (f"{file} has no section in docs/proof.md: add '## {file}' and a row for "
               f"each test: {', '.join(tests[file])}")  # fmt: skip
    for file in sorted(rows.keys() - tests.keys()):
        yield f"docs/proof.md: there is no {file}, delete its section"
    for file in sorted(rows.keys() & tests.keys()):
        for test in sorted(set(tests[file]) - set(rows[file])):
            yield f"{file} in docs/proof.md: add '| law | equation | `{test}` |'"
        for test in sorted(set(rows[file]) - set(tests[file])):
            yield f"{file} in docs/proof.md: there is no {test}, delete its row"
        for test in sorted({n for n in rows[file] if rows[file].count(n) > 1}):
            yield f"{file} in docs/proof.md: {test} has two rows, delete one"


def test_the_page_names_the_tests_that_there_are():
    files = sorted((ROOT / "tests").glob("test_*.py"))
    page = (ROOT / "docs/proof.md").read_text(encoding="utf-8")
    tests = {f"tests/{path.name}": named_tests(path) for path in files}
    found = list(gaps(page, tests))
    assert files and not found, "\n".join(found)


def test_every_gap_is_told_with_its_cure():
    def row(test):
        return f"| law | - | `{test}` |\n"

    page = "## other\n## tests/test_a.py\n" + row("test_one") + row("test_two")
    right = {"tests/test_a.py": ["test_one", "test_two"]}
    assert list(gaps(page, right)) == []
    (found,) = gaps(page, right | {"tests/test_x.py": ["test_new"]})
    assert found.startswith("tests/test_x.py has no section in docs/proof.md: add '## ")
    (found,) = gaps(page, {"tests/test_a.py": [*right["tests/test_a.py"], "test_new"]})
    assert found.endswith("add '| law | equation | `test_new` |'")
    (found,) = gaps(page, {"tests/test_a.py": ["test_one"]})
    assert found.endswith("there is no test_two, delete its row")
    (found,) = gaps(page + row("test_one"), right)
    assert found.endswith("test_one has two rows, delete one")
    (found,) = gaps(page, {})
    assert found == "docs/proof.md: there is no tests/test_a.py, delete its section"
