"""The README's Python does what its comments say."""

import re
from pathlib import Path

import pytest
from PIL import Image

from nanodiff import READING_ORDER

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


OF_A_FOLDER = [code for code in BLOCKS if '"FOLDER"' in code]


@pytest.mark.parametrize("code", [code for code in BLOCKS if code not in OF_A_FOLDER])
def test_the_readme_runs_and_prints_what_it_claims(code, capsys):
    (claimed,) = re.findall(r"print\(.*?\)  # (\([\d, ]+\)|[\d.]+)", code)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip() == claimed


def test_the_ten_lines_go_from_a_folder_to_a_sheet_by_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, colour in (("dark", 30), ("pale", 220)):
        (tmp_path / "FOLDER" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (9, 12), colour + i).save(f"FOLDER/{name}/{i}.png")
    (code,) = OF_A_FOLDER
    assert len(code.splitlines()) <= 10
    quick = code.replace("steps=2500", "steps=2").replace("steps=50", "steps=2")
    found = {}
    exec(compile(quick, "README.md", "exec"), found)
    assert found["made"].shape == (16, 3, 32, 32) and found["names"] == ["dark", "pale"]
    assert (tmp_path / "mine.npz").exists()


def test_there_are_three_pieces_of_python_in_the_readme():
    assert len(BLOCKS) == 3 and len(OF_A_FOLDER) == 1


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
