"""docs/proof.md names every law that is tested, and none that is not."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_page_names_the_tests_that_there_are():
    page = (ROOT / "docs/proof.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", page, flags=re.M)[1:]
    files = {section.split("\n")[0]: section for section in sections}
    files = {name: files[name] for name in files if name.startswith("tests/")}
    assert len(files) >= 9
    for name, section in files.items():
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        there = {f.name for f in tree.body if isinstance(f, ast.FunctionDef)}
        there = {name for name in there if name.startswith("test_")}
        named = re.findall(r"`(test_\w+)` \|$", section, flags=re.M)
        assert len(named) == len(set(named)), name
        assert set(named) == there - {"test_bad_input_is_named"}, name
