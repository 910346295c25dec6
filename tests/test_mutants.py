"""Would the tests notice? Each error of `mutants.py` must fail at least one of them."""

import contextlib
import importlib
import importlib.abc
import importlib.util
import inspect
import re
import sys
import tempfile
import warnings
from functools import reduce
from itertools import product
from operator import or_
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, settings

import nanodiff
from nanodiff import laws
from tests.mutants import MUTANTS
from tests.strangers import ALPHA_BAR

FOLDER = Path(nanodiff.__file__).parent
# Loaded anew with each mutant: all modules that have one, and plain Python that imports
# them. The others keep what they have: compiled loops would be compiled again.
FRESH = [
    "check", "schedule", "prediction", "ddpm", "ddim", "heun", "flow", "dpm", "exact",
    "likelihood", "optim", "self_conditioning", "train", "checkpoint", "attention",
    "unet", "data", "viz", "guidance", "latent", "respace", "gradcheck", "plain",
    "pictures", "trained", "export", "export.mirror", "export.pytorch",
    "export.onnx_file", "parallel", "streams", "toy", "sampling", "signals", "run",
]  # fmt: skip
JUDGES = {  # the test files of which one must fail
    "check": ["check"],
    "schedule": ["schedule", "samplers", "exact", "flow"],
    "prediction": ["prediction", "samplers"],
    "ddpm": ["samplers", "exact"],
    "ddim": ["samplers", "exact"],
    "heun": ["samplers"],
    "flow": ["flow"],
    "dpm": ["dpm"],
    "exact": ["exact"],
    "likelihood": ["likelihood"],
    "optim": ["optim"],
    "train": ["train"],
    "checkpoint": ["train"],
    "guidance": ["guidance"],
    "latent": ["latent"],
    "respace": ["respace"],
    "attention": ["attention"],
    "unet": ["unet"],
    "plain": ["plain"],
    "self_conditioning": ["self_conditioning"],
    "gradcheck": ["gradcheck"],
    "data": ["files"],
    "pictures": ["pictures"],
    # skipped as their tests are, where an extra is missing
    "export.mirror": ["export"],
    "export.pytorch": ["export"],
    "export.onnx_file": ["export"],
    "viz": ["files", "viz"],
    "parallel": ["parallel"],
    "streams": ["streams"],
}
LEFT_ALONE = {  # modules without a mutant, and why
    "laws": "a package; tests/test_laws.py shows it wrong code of every kind",
    "engine": "chooses between plain and fast, and computes nothing",
    "fast": "compiled; its tests compare it with plain sums",
    "layers": "its tests compile; gradients are checked by a check that can fail",
    "evaluate": "its tests take half a minute",
    "toy": "its tests train for ten seconds",
    "files": "its tests damage files, and see that each check is needed",
    "progress": "how far a loop is, and nothing of what it computes",
    "trained": "reads and writes files; its tests run the compiled network",
    "signals": "its tests send signals to runs",
    "run": "what it keeps is the mutants' of train and checkpoint",
    "sampling": "joins samplers and wrappers, which have theirs",
    "sprites": "draws pictures by a rule of our own, which nobody has published",
    "sprite_parts": "the parts of those pictures",
}


def path_of(name):
    """The file of a module, such as ddpm or export.mirror."""
    return FOLDER / f"{name.replace('.', '/')}.py"


class Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module of nanodiff from a changed source, in memory."""

    def __init__(self, name, source):
        self.name, self.source = f"nanodiff.{name}", source

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            return importlib.util.spec_from_loader(name, self)

    def exec_module(self, module):
        module.__file__ = str(path_of(self.name.removeprefix("nanodiff.")))
        exec(compile(self.source, module.__file__, "exec"), vars(module))


@contextlib.contextmanager
def mutated(name, source):
    """Inside, nanodiff and its tests are loaded anew, one module from this source."""
    fresh = [f"nanodiff.{module}" for module in FRESH]
    away = [m for m in sys.modules if m in fresh or m.startswith("tests.test_")
            or m == "tests.strategies"]  # fmt: skip
    kept = {m: sys.modules.pop(m) for m in away}
    attributes = dict(vars(nanodiff))
    for module in FRESH:  # else `from nanodiff import ddpm` would find the old one
        vars(nanodiff).pop(module, None)
    finder = Mutated(name, source)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for module in [
            *fresh,
            *(m for m in sys.modules if m.startswith("tests.test_")),
        ]:
            sys.modules.pop(module, None)
        sys.modules.update(kept)
        vars(nanodiff).update(attributes)


def calls(test):
    """All arguments that `parametrize` gives a test: [{}] if it has none."""
    tables = []
    for mark in getattr(test, "pytestmark", []):
        names, rows = mark.args[0].split(", "), mark.args[1]
        tables.append([dict(zip(names, row if len(names) > 1 else [row], strict=True))
                       for row in rows])  # fmt: skip
    return [reduce(or_, rows, {}) for rows in product(*tables)]


def fails(test):
    """Does a test fail, with any arguments that `parametrize` gives it?

    One that wants other fixtures than rng and tmp_path, or has other marks than
    `parametrize` (it is slow, or needs what may be missing), is passed over.
    """
    if any(mark.name != "parametrize" for mark in getattr(test, "pytestmark", [])):
        return False
    for given in calls(test):
        wanted = inspect.signature(test).parameters.keys() - given.keys()
        if not wanted <= {"rng", "tmp_path"}:
            return False
        with tempfile.TemporaryDirectory() as folder:
            fixtures = {"rng": np.random.default_rng(0), "tmp_path": Path(folder)}
            given |= {name: fixtures[name] for name in wanted}
            try:
                test(**given)
            except (Exception, pytest.fail.Exception):
                return True
    return False


def is_noticed(name):
    """Does any test fail, of the files that judge this module?

    Skips where none fails and one skips itself: it needs what is missing.
    """
    skipped = None
    for file in JUDGES[name]:
        module = vars(importlib.import_module(f"tests.test_{file}"))
        tests = [found for name, found in module.items() if name.startswith("test_")]
        for test in tests:
            try:
                if fails(test):
                    return True
            except pytest.skip.Exception as reason:
                skipped = reason
    if skipped is not None:
        raise skipped
    return False


@pytest.fixture(autouse=True)
def few_examples():
    before = settings.default
    settings.register_profile(
        "mutants", before, max_examples=10, database=None,
        phases=[Phase.explicit, Phase.generate],  # that it fails is all we ask
    )  # fmt: skip
    settings.load_profile("mutants")
    yield
    settings.load_profile("nanodiff")


@pytest.mark.parametrize("name, before, after, who", MUTANTS)
def test_a_published_error_is_noticed(name, before, after, who):
    source = path_of(name).read_text(encoding="utf-8")
    assert source.count(before) == 1, f"{name}.py no longer has {before!r} once"
    with mutated(name, source.replace(before, after)):
        assert is_noticed(name), f"no test notices: {who}"


@pytest.mark.parametrize("name", sorted({row[0] for row in MUTANTS}))
def test_the_source_as_it_is_passes(name):
    with mutated(name, path_of(name).read_text(encoding="utf-8")):
        assert not is_noticed(name)


def test_every_module_has_a_mutant_or_a_reason_to_be_left_alone():
    there = {path.relative_to(FOLDER).parts[0] for path in FOLDER.rglob("*.py")}
    there = {name.removesuffix(".py") for name in there} - {"__init__", "__main__"}
    mutants = {row[0] for row in MUTANTS}
    have_one = {name.partition(".")[0] for name in mutants}
    unknown = [
        f"no mutant of {name}: add a row {(name, 'before', 'after', 'who')} to "
        f"tests/mutants.py, and to tests/test_mutants.py {name!r} in FRESH and "
        f"{name!r}: [its test files] in JUDGES; or {name!r}: 'why' in LEFT_ALONE"
        for name in sorted(there - LEFT_ALONE.keys() - have_one)
    ]
    assert not unknown, "\n".join(unknown)
    assert mutants <= set(FRESH) and mutants == JUDGES.keys()
    assert not have_one & LEFT_ALONE.keys(), "delete these from LEFT_ALONE"


def test_there_are_at_least_twenty_published_errors():
    assert len({(row[0], row[1], row[2]) for row in MUTANTS}) == len(MUTANTS) >= 20


# ------------------------------------------ the same errors, shown to nanodiff.laws
PUBLIC = [row for row in MUTANTS if row[0] in ("schedule", "ddpm", "ddim", "respace")]
PAGE = FOLDER.parent / "docs/laws.md"


def reports():
    """What the public checker says of the modules as they are loaded now."""
    names = "schedule", "ddpm", "ddim", "respace"
    modules = [importlib.import_module(f"nanodiff.{name}") for name in names]
    schedule, ddpm, ddim, respace = modules
    for kind in ("linear", "cosine", "quadratic", "sigmoid", "straight"):
        s = schedule.NAMED[kind](100)
        yield laws.check_schedule(
            s.beta, s.alpha_bar, kind=kind, tables={"beta_tilde": s.beta_tilde},
            q_sample=lambda x0, t, eps, s=s: schedule.q_sample(s, x0, t, eps),
            allow=("terminal",) if kind == "quadratic" else (),
        )  # fmt: skip
    s = schedule.Schedule(1 - ALPHA_BAR / np.append(1.0, ALPHA_BAR[:-1]))

    def respaced(model, xT, rng):
        model, short = respace.respace(model, s, 27)
        return ddpm.sample(model, short, xT, rng)

    for steps, run in (
        (100, lambda m, x, rng: ddpm.sample(m, s, x, rng)),
        (100, lambda m, x, rng: ddpm.sample(m, s, x, rng, "beta")),
        (3, lambda m, x, rng: ddim.sample(m, s, x, 3, 0.5, rng)),
        (27, lambda m, x, rng: ddim.sample(m, s, x, 27)),
        (27, lambda m, x, rng: ddim.sample(m, s, x, 27, 0.5, rng)),
        (27, lambda m, x, rng: ddim.sample(m, s, x, 27, clip=1.0)),
        (27, respaced),
    ):

        def sample(model, shape, run=run):
            rng = np.random.default_rng(0)
            return run(model, rng.standard_normal(shape), rng)

        yield laws.check_sampler(sample, np.append(1.0, ALPHA_BAR), steps=steps)


def noticed_by_laws():
    """The laws that are broken, and "clip", "ends", "count" where they are remarked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [f for report in reports() for f in report.findings]
    return {f.law for f in found if f.verdict in ("BROKEN", "crash")} | {
        f"({f.law})" for f in found
        if f.law in ("clip", "ends", "count") and f.verdict in ("note", "small")
    }  # fmt: skip


@pytest.mark.parametrize("row", PUBLIC, ids=lambda row: row[3])
def test_the_page_says_which_laws_notice_which_error(row):
    name, before, after, who = row
    page = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", PAGE.read_text("utf-8"), re.M)
    claimed = {(file, error): cell for file, error, cell in page}[name, who]
    source = path_of(name).read_text(encoding="utf-8")
    with mutated(name, source.replace(before, after)):
        found = noticed_by_laws()
    assert (", ".join(sorted(found)) or "none") == claimed.split(":")[0]


def test_the_public_checker_has_nothing_against_the_source_as_it_is():
    assert not noticed_by_laws()
