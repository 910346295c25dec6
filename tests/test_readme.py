"""The README's Python does what its comments say."""

import re
from pathlib import Path

import pytest

from nanodiff import READING_ORDER

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS)
def test_the_readme_runs_and_prints_what_it_claims(code, capsys):
    (claimed,) = re.findall(r"print\(.*?\)  # (\([\d, ]+\)|[\d.]+)", code)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip() == claimed


def test_there_are_two_pieces_of_python_in_the_readme():
    assert len(BLOCKS) == 2


def test_the_table_is_the_reading_order():
    row = re.compile(r"^\| \*\*(.+)\*\* \| \||^\| \[`(\w+)[./].*?`\]\((\S+)\) \|", re.M)
    found, links = [], []
    for title, name, link in row.findall(README):
        if title:
            found.append((title, []))
        else:
            found[-1][1].append(name)
            links.append(link)
            assert name in link
    assert [(title, tuple(names)) for title, names in found] == list(READING_ORDER)
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing, f"README links to {missing}"
