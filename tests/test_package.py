"""What is installed: all packages, all licences, the commands, a page without gaps."""

import configparser
import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import nanodiff
from nanodiff.__main__ import commands

ROOT = Path(__file__).parent.parent
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def python_m(*words):
    return subprocess.run(
        [sys.executable, "-m", "nanodiff", *words], cwd=ROOT, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip


def test_every_folder_of_code_is_in_the_wheel():
    folders = {path.parent for path in (ROOT / "nanodiff").rglob("*.py")}
    there = {".".join(path.relative_to(ROOT).parts) for path in folders}
    listed = set(SETUP["options"]["packages"].split())
    assert listed == there | {"nanodiff.examples"}, (
        "packages in setup.cfg: see the sets"
    )


def test_every_licence_is_there_and_named():
    files = SETUP["metadata"]["license_files"].split()
    assert sorted(files) == sorted(path.name for path in ROOT.glob("LICENSE*"))
    assert SETUP["metadata"]["license_expression"] == "MIT AND CC-BY-SA-3.0"
    text = (ROOT / "LICENSE-DIGITS").read_text(encoding="utf-8")
    assert "\nAttribution-ShareAlike 3.0 Unported\n" in text
    assert re.findall(r"^(\d)\. ", text, re.M) == list("12345678")  # whole


def test_the_page_of_the_package_has_no_link_that_leads_nowhere():
    page = (ROOT / SETUP["metadata"]["long_description"][6:]).read_text(
        encoding="utf-8"
    )
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert all(link.startswith("https://") for link in links)
    named = set(re.findall(r"python -m nanodiff (\w+)", page))
    assert named and named <= commands().keys()


def test_every_example_is_a_command():
    examples = {path.stem for path in (ROOT / "examples").glob("*.py")}
    examples -= {"limits"}
    assert examples | {"train"} <= commands().keys()
    found = python_m()
    assert found.returncode == 0 and "sample, " in found.stdout
    assert python_m("dance").returncode == 2
    found = python_m("sample", "--rows", "0")
    assert found.returncode == 2 and "--rows: '0'" in found.stderr


def test_a_script_names_the_next_line_as_it_was_run_itself(monkeypatch):
    command = runpy.run_path(str(ROOT / "examples/limits.py"))["command"]
    monkeypatch.setattr(sys, "argv", ["examples/train_pictures.py", "FOLDER"])
    assert command("sample", "--model", "a b", "--w", 1) == (
        f"python {Path('examples/sample.py')} --model 'a b' --w 1"
    )
    monkeypatch.setattr(sys, "argv", ["train", "FOLDER"])  # as __main__ sets it
    assert command("sample", "--w", 1) == "python -m nanodiff sample --w 1"


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="has torch")
@pytest.mark.parametrize("name", [
    "kernels", "sampling", "start_and_memory", "time_to_quality", "training_step",
])  # fmt: skip
def test_without_torch_a_benchmark_says_how_to_get_it(name):
    found = subprocess.run(
        [sys.executable, f"benchmarks/{name}.py"], cwd=ROOT, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert found.returncode == 1 and "pip install torch" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="has torch")
def test_without_torch_training_on_a_gpu_says_how_to_get_it(tmp_path):
    found = python_m("train_on_gpu", "--quick", "--out", str(tmp_path / "out"))
    assert found.returncode == 1 and not list(tmp_path.iterdir())
    assert "pip install 'nanodiff[torch]'" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("name", ["Run", "Recipe", "sample", "pretrained", "guide"])
def test_what_ten_lines_need_is_at_the_top(name):
    assert name in nanodiff.__all__ and callable(getattr(nanodiff, name))
