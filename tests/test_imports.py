"""Imports go down only: a reader can take the files in order."""

import ast
from pathlib import Path

import nanodiff

FOLDER = Path(nanodiff.__file__).parent
LEVEL = {
    "blas": 1, "rows": 1, "norm_kernels": 1, "schedule": 1, "data": 1,
    "gradcheck": 1, "viz": 1, "guidance": 1, "latent": 1, "winograd": 1,
    "sprite_parts": 1, "sprites": 2, "optim": 2,
    "kernels": 2, "checkpoint": 2, "prediction": 2,
    "plans": 3, "ddpm": 3, "ddim": 3, "likelihood": 3, "self_conditioning": 3,
    "strings": 4,
    "exact": 4, "heun": 4, "respace": 4, "layers": 5, "unet": 6, "evaluate": 6,
    "toy": 7, "train": 7, "trained": 7, "run": 8,
}  # fmt: skip


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            yield from names if node.module == "nanodiff" else [node.module]
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_every_file_has_a_level_and_imports_only_from_below():
    files = {path.stem: path for path in FOLDER.glob("*.py")}
    assert files.keys() - {"__init__"} == LEVEL.keys()
    for name, level in LEVEL.items():
        for module in imported(files[name]):
            below = module.removeprefix("nanodiff.")
            assert LEVEL.get(below, 0) < level, f"{name} imports {module}"


def test_samplers_and_the_loop_know_no_network_and_only_viz_draws():
    for name in ("ddpm", "ddim", "heun", "exact", "likelihood", "train"):
        assert not {"unet", "nanodiff.unet"} & set(imported(FOLDER / f"{name}.py"))
    for name in LEVEL.keys() - {"viz"}:
        modules = {m.split(".")[0] for m in imported(FOLDER / f"{name}.py")}
        assert not modules & {"matplotlib", "PIL"}, name
