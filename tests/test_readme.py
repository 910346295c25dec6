"""The README's Python does what its comments say."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS)
def test_the_readme_runs_and_prints_what_it_claims(code, capsys):
    (claimed,) = re.findall(r"print\(.*?\)  # (\([\d, ]+\)|[\d.]+)", code)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip() == claimed


def test_there_are_two_pieces_of_python_in_the_readme():
    assert len(BLOCKS) == 2
