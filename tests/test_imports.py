"""Each file imports only from files that come before it in the reading order."""

import ast
from pathlib import Path

import nanodiff

FOLDER = Path(nanodiff.__file__).parent
ORDER = [name for _, names in nanodiff.READING_ORDER for name in names]
SECTION = {name: title for title, names in nanodiff.READING_ORDER for name in names}
# A module of another project, and the files that may import it.
ONLY_IN = {
    "matplotlib": ["viz"],
    "PIL": ["viz", "pictures"],
    "numba": ["fast", "engine"],
}
EXTRAS = {"torch", "onnx", "pooch", "mpi4py", "diffusers"}  # only inside a function


def name_of(path):
    """The name in the reading order: of a file, or of the package that it lies in."""
    return path.relative_to(FOLDER).parts[0].removesuffix(".py")


def sources():
    """All (name, path) of the package but its `__init__` and `__main__`."""
    outside = FOLDER / "__init__.py", FOLDER / "__main__.py"
    paths = [path for path in FOLDER.rglob("*.py") if path not in outside]
    return [(name_of(path), path) for path in sorted(paths)]


def imported(path, everywhere=True):
    """Absolute names of what a file imports, in functions too or at its top only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {node for f in ast.walk(tree) for node in ast.walk(f)
              if isinstance(f, ast.FunctionDef) and node is not f}  # fmt: skip
    package = ["nanodiff", *path.relative_to(FOLDER).parts[:-1]]
    for node in ast.walk(tree):
        if not everywhere and node in inside:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def own(path):
    """The names in the reading order from which a file imports."""
    parts = [found.split(".") for found in imported(path)]
    return {(*rest, "__init__")[0] for first, *rest in parts if first == "nanodiff"}


def test_the_reading_order_has_every_file_once():
    assert len(ORDER) == len(set(ORDER))
    there = {name for name, _ in sources()}
    assert set(ORDER) == there, (
        f"READING_ORDER in nanodiff/__init__.py: add {sorted(there - set(ORDER))}, "
        f"delete {sorted(set(ORDER) - there)}"
    )


def test_a_file_imports_only_from_files_before_it():
    for name, path in sources():
        before = [name, *ORDER[: ORDER.index(name)]]
        before += ["fast"] if name == "engine" else []
        for other in own(path):
            assert other in before, f"{path.name} imports {other}, not before it"


def test_the_wing_is_entered_by_its_door_and_imports_nothing_from_outside():
    files = {path.stem for name, path in sources() if name == "fast"}
    for name, path in sources():
        if name == "fast":
            assert own(path) <= {"fast"}, f"{path.name} imports {own(path)}"
            continue
        for found in imported(path):
            _, *door = found.split("nanodiff.fast.")
            behind = door and door[0].split(".")[0] in files
            assert not behind, f"{path.name} imports {found}, expected names of fast"


def test_samplers_and_the_loop_know_no_network():
    network = {n for n in ORDER if SECTION[n] in ("The network", SECTION["fast"])}
    for name, path in sources():
        if name == "train" or SECTION[name] == "The ideas":
            known = own(path) & network
            assert not known, f"{path.name} imports {known}"


def test_other_projects_stay_in_their_files():
    for name, path in sources():
        for found in imported(path):
            allowed = ONLY_IN.get(found.split(".")[0], [name])
            assert name in allowed, f"{path.name} imports {found}: only {allowed} may"
        extras = {found.split(".")[0] for found in imported(path, everywhere=False)}
        found = extras & EXTRAS
        assert not found, f"{path.name} imports {found}, expected inside a function"
