"""The compiled functions are the plain ones, to rounding, whatever else goes on."""

import ast
import inspect
import os
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff import engine, plain, unet
from tests.strategies import seeds

numba = pytest.importorskip("numba")
from nanodiff import fast  # noqa: E402
from nanodiff.fast import compiled, convolve, products, winograd  # noqa: E402

ROOT = Path(__file__).parent.parent
sizes = st.integers(1, 9)
hows = st.sampled_from([(1, 1, False), (1, 2, False), (3, 1, False), (3, 2, False),
                        (3, 1, True)])  # kernel, stride, up  # fmt: skip
TOLERANCE = {np.float32: 3e-5, np.float64: 1e-12}


def every_result(functions, x, w, b, how, seed, skips=True):
    """y, dx, dw and db of a convolution, and of the norm after it, by `functions`."""
    rng = np.random.default_rng(seed)
    draw = lambda shape: rng.standard_normal(shape).astype(x.dtype)  # noqa: E731
    shape = plain.conv2d(x, w, b, *how).shape
    dy, skip, dskip = draw(shape), draw(shape), draw(x.shape)
    y = functions.conv2d(x, w, b, *how, skip if skips else None)
    size = x.shape[2:]
    dx = functions.conv2d_dx(dy, w, size, *how, dskip if skips else None)
    yield from (y, dx, *functions.conv2d_dw(x, dy, w, *how))
    scale, shift = draw((2, *shape[:2]))
    for silu in (False, True):
        y, mean, rstd = functions.group_norm(skip, scale, shift, 1, 1e-2, silu)
        yield from (y, mean, rstd)
        more = y if skips else None
        yield from functions.group_norm_backward(
            dy, skip, scale, shift, mean, rstd, silu, more
        )


def test_the_door_has_the_names_and_arguments_of_plain():
    offered = {name: inspect.signature(getattr(fast, name)) for name in fast.__all__}
    assert offered == {
        name: inspect.signature(f) for name, f in vars(plain).items()
        if inspect.isfunction(f) and not name.startswith("_")
    }  # fmt: skip


def test_nothing_but_the_door_is_imported_from_outside():
    for path in [*ROOT.glob("nanodiff/*.py"), *ROOT.glob("examples/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                assert not [n for n in names if n.startswith("nanodiff.fast.")], path


@given(
    st.sampled_from([np.float32, np.float64]), hows,
    st.booleans(), sizes, sizes, sizes, sizes, sizes, seeds,
)  # fmt: skip
def test_fast_equals_plain(dtype, how, skips, N, C, K, H, W, seed):
    rng, (kernel, *how) = np.random.default_rng(seed), how
    x, w = (rng.standard_normal(s).astype(dtype)
            for s in ((N, C, H, W + 1), (K, C, kernel, kernel)))  # fmt: skip
    b = rng.standard_normal(K).astype(dtype)
    found = list(every_result(fast, x, w, b, how, seed, skips))
    for a, want in zip(
        found, every_result(plain, x, w, b, how, seed, skips), strict=True
    ):
        assert a.dtype == dtype
        atol = TOLERANCE[dtype] * max(1, np.abs(want).max())
        np.testing.assert_allclose(a, want, rtol=0, atol=atol)


@pytest.mark.parametrize("how", [(1, False), (2, False), (1, True)])
@pytest.mark.parametrize("size", [(14, 28), (13, 14), (7, 7), (5, 3)])
def test_fast_equals_plain_for_many_images(how, size, rng):
    # several strips, the last not whole, or several images in one; some images for
    # each partial sum, and more
    x, w = rng.standard_normal((45, 5, *size)), rng.standard_normal((6, 5, 3, 3))
    pairs = [every_result(f, x, w, np.ones(6), how, 1) for f in (fast, plain)]
    for a, want in zip(*pairs, strict=True):
        atol = 1e-12 * max(1, np.abs(want).max())
        np.testing.assert_allclose(a, want, rtol=0, atol=atol)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="of the code that LLVM is given")
@given(
    st.sampled_from(range(len(products.SHAPES))),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(), st.booleans(), st.integers(0, 3), st.integers(0, 9), seeds,
)  # fmt: skip
def test_a_block_of_products_is_its_definition(
    shape, dtype, has_bias, has_more, R, M, seed
):
    P, vectors = products.SHAPES[shape]
    lanes = vectors * products.BYTES // np.dtype(dtype).itemsize
    rng = np.random.default_rng(seed)
    bias, more, a, b = (rng.standard_normal(shape).astype(dtype) for shape in
                        (lanes, (P, lanes), (P, R, M), (R, M, lanes)))  # fmt: skip
    want = np.einsum("prm,rmk->pk", a.astype(float), b.astype(float))
    want += has_bias * bias + has_more * more
    flat = bias[: lanes * has_bias], more.ravel()[: more.size * has_more]
    out = np.full(P * lanes, np.nan, dtype)
    one_block((shape, P, lanes), *flat, out, a.ravel(), b.ravel(), R, M)
    tolerance = 20 * np.finfo(dtype).eps * max(1, np.abs(want).max())
    np.testing.assert_allclose(out.reshape(P, lanes), want, rtol=0, atol=tolerance)


@numba.njit
def one_block(block, bias, more, out, a, b, R, M):
    lanes = block[2]
    products.sum_products(
        block, bias, (0,), more, out, (0, lanes), a, (0, R * M, M, 1),
        b, (0, M * lanes, lanes), (R, M),
    )  # fmt: skip


def test_a_block_fits_the_registers_and_wastes_nothing_on_digits():
    for P, vectors in products.SHAPES:
        assert P * vectors + vectors + 1 <= products.REGISTERS
    for pixels in (28, 14, 7, 32, 16, 8):
        _, P, lanes = products.block(pixels, 64, np.float32)
        assert pixels % P == 0 and 64 % lanes == 0
    for m in winograd.POINTS:  # rows of y of a tile: those of the next are not touched
        assert products.block(m, 64, np.float32, one_high=True)[1] == m


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of x86")
@pytest.mark.parametrize("cpu, shapes", [("haswell", 6), ("x86-64", 6)])
def test_fast_equals_plain_with_the_registers_of_other_processors(
    cpu, shapes, tmp_path
):
    code = """
import numpy as np
from nanodiff import fast, plain
from nanodiff.fast.products import SHAPES
from tests.test_fast import KINDS, every_result, problem
for kernel, how in KINDS:
    given = problem(kernel, 2, 14, 28, np.random.default_rng(0), 8, 18)
    for a, b in zip(*(every_result(f, *given, how, 0) for f in (fast, plain))):
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-5 * max(1, np.abs(b).max()))
print(len(SHAPES))
"""
    switches = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""}
    found = run(code, NUMBA_CACHE_DIR=str(tmp_path), **switches)
    assert int(found) == shapes


def test_the_float32_sigmoid_is_exact_to_rounding():
    # one channel a value: with a scale of 0 the norm's output is the shift's silu
    u = np.linspace(-100, 100, 4001, dtype=np.float32)[None]
    x = np.zeros((1, u.size, 1, 1), np.float32)
    found = fast.group_norm(x, 0 * u, u, 1, 1e-5, True)[0].ravel()
    u = u[0].astype(np.float64)
    np.testing.assert_allclose(found, u / (1 + np.exp(-u)), rtol=5e-7, atol=1e-35)


KINDS = [(kernel, how) for kernel, *how in
         ((1, 1, False), (3, 1, False), (3, 2, False), (3, 1, True))]  # fmt: skip


def problem(kernel, N, H, W, rng, C=3, K=5):
    x = rng.standard_normal((N, C, H, W), dtype=np.float32)
    w = rng.standard_normal((K, C, kernel, kernel), dtype=np.float32)
    return x, w, rng.standard_normal(K, dtype=np.float32)


def assert_same_bits(found, want):
    for a, b in zip(found, want, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kernel, how", KINDS)
def test_the_bits_do_not_depend_on_the_number_of_threads(kernel, how, rng):
    given, threads = problem(kernel, 40, 14, 14, rng, 8, 8), numba.get_num_threads()
    results = []
    try:
        for n in {1, threads}:
            numba.set_num_threads(n)
            results.append(list(every_result(fast, *given, how, 0)))
    finally:
        numba.set_num_threads(threads)
    assert_same_bits(results[0], results[-1])


@pytest.mark.parametrize("kernel, how", KINDS)
def test_scratch_that_is_used_again_leaves_no_trace(kernel, how, rng):
    shapes = [(29, 6, 7), (30, 6, 7), (30, 6, 8), (29, 5, 7)]
    given = [problem(kernel, *shape, rng) for shape in shapes]
    nothing = [(np.full_like(x, np.nan), w, b) for x, w, b in given]
    want = []
    for one in given:
        convolve._work.cache_clear()
        want.append(list(every_result(fast, *one, how, 0)))
    for one, wanted in zip(given, want, strict=True):
        for other in (*given, *nothing):
            list(every_result(fast, *other, how, 0))
            assert_same_bits(every_result(fast, *one, how, 0), wanted)


def test_a_weight_that_changed_in_place_or_made_room_is_seen(rng):
    x, w, b = problem(3, 2, 5, 5, rng)
    before = fast.conv2d(x, w, 0 * b)
    w *= 2
    np.testing.assert_array_equal(fast.conv2d(x, w, 0 * b), 2 * before)
    kept = set(convolve._KEPT)
    for _ in range(9):  # each may get the place in memory of the one before
        w = rng.standard_normal((5, 3, 3, 3), dtype=np.float32)
        np.testing.assert_allclose(
            fast.conv2d(x, w, b), plain.conv2d(x, w, b), atol=1e-4
        )
    del w
    assert len(set(convolve._KEPT) - kept) <= 1  # none is kept longer than its weight


@pytest.mark.skipif(engine.PLAIN, reason="plain NumPy has no threads of its own")
def test_eight_threads_get_the_bits_of_one(rng):
    fast, threads = engine.functions, numba.get_num_threads()
    given = [(*problem(kernel, N, 14, 18, rng, 8, 8), how) for kernel, how in KINDS
             for N in (1, 4, 16)]  # fmt: skip
    want = [list(every_result(fast, *one, 0)) for one in given]
    blas = [lib["num_threads"] for lib in engine.turn.blas.info()]

    def call(i):
        assert_same_bits(
            every_result(fast, *given[i % len(given)], 0), want[i % len(given)]
        )

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(call, range(1000)))) == 1000
    assert [lib["num_threads"] for lib in engine.turn.blas.info()] == blas
    assert numba.get_num_threads() == threads


TRAINING = """
import hashlib, numpy as np
from nanodiff import linear
from nanodiff.optim import EMA, Adam, Muon
from nanodiff.toy import MLP
from nanodiff.train import Recipe, train
from nanodiff.unet import UNet
for make, optimizer, shape in ((MLP, Adam, (500, 2)), (UNet, Muon, (50, 1, 16, 16))):
    rng = np.random.default_rng(0)
    model, images = make(rng=rng), rng.standard_normal(shape, dtype=np.float32)
    params, recipe = model.named_params(), Recipe(steps=4, batch=40, warmup=1)
    steps = train(model, linear(100), images, None, recipe, rng=rng,
                  optimizer=optimizer(params), ema=EMA(params))
    print(list(steps), hashlib.sha256(np.concatenate([w.ravel() for w in
          params.values()]).tobytes()).hexdigest())
"""


def test_a_training_has_the_same_bits_whatever_the_threads_of_blas():
    one, two = (run(TRAINING, OPENBLAS_NUM_THREADS=n) for n in "12")
    assert one == two and "(3, " in one


@pytest.mark.skipif(engine.PLAIN, reason="plain NumPy has no threads")
def test_one_image_takes_one_thread_and_gives_the_others_back(monkeypatch, rng):
    before, asked = numba.get_num_threads(), []
    with engine.threads_for(engine.LITTLE):
        assert numba.get_num_threads() == before
    with pytest.raises(KeyError), engine.threads_for(engine.LITTLE - 1):
        assert numba.get_num_threads() == 1
        raise KeyError
    assert numba.get_num_threads() == before
    take = lambda n: asked.append(n) or engine.threads_for(n)  # noqa: E731
    monkeypatch.setattr(unet, "threads_for", take)
    unet.UNet(3, channels=(8,), rng=rng)(np.zeros((2, 3, 5, 4), np.float32), 1)
    assert asked == [2 * 8 * 5 * 4] and 28 * 28 * 32 < engine.LITTLE < 2 * 28 * 28 * 32


@pytest.mark.skipif(engine.PLAIN, reason="plain NumPy needs no turns")
def test_an_error_in_a_turn_ends_it():
    with pytest.raises(KeyError), engine.turn:
        raise KeyError
    had_one = threading.Event()
    threading.Thread(target=engine.turn(had_one.set)).start()
    assert had_one.wait(10)


def run(code, **environment):
    """Run Python code in a process of its own; return what it prints."""
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment, timeout=600,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


BITS = """
import hashlib, numpy as np
from nanodiff import fast
from tests.test_fast import KINDS, every_result, problem
rng = np.random.default_rng(0)
for dtype in (np.float32, np.float64):
    for kernel, how in KINDS:
        for N in (1, 3, 40):
            given = [a.astype(dtype) for a in problem(kernel, N, 14, 14, rng, 8, 8)]
            for a in every_result(fast, *given, how, 0):
                print(hashlib.sha256(a.tobytes()).hexdigest()[:8], end=" ")
"""


@pytest.mark.slow
def test_a_process_that_compiles_gets_the_bits_of_those_that_load(tmp_path):
    cold, warm = (run(BITS, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert len(cold.split()) == 2 * 4 * 3 * 16 and cold == warm


def test_each_loop_is_compiled_once_for_a_dtype():
    code = """
import numpy as np
from nanodiff import fast
from tests.test_fast import KINDS, every_result, problem
for kernel, how in KINDS:
    for N in (1, 40):
        given = problem(kernel, N, 14, 14, np.random.default_rng(0), 8, 8)
        for skips in (False, True):
            list(every_result(fast, *given, how, 0, skips))
for module in (fast.kernels, fast.norms):
    for name, f in vars(module).items():
        if len(getattr(f, "signatures", [])) > 1:
            print(name, f.signatures)
"""
    assert run(code) == ""


def test_a_change_in_any_file_of_the_folder_compiles_anew():
    for function in (fast.norms.normalise, fast.kernels.correlate):
        assert function._cache._cache_file._source_stamp == compiled.STAMP
    folder = Path(fast.__file__).parent
    assert len(list(folder.glob("*.py"))) >= 9  # all of them are in the stamp


def test_where_nothing_can_be_kept_it_works_with_a_word(tmp_path):
    code = """
import warnings, numba
njit = numba.njit
def refuse(*args, cache=False, **options):
    if cache:
        raise RuntimeError("cannot cache function: no locator available")
    return njit(*args, **options)
numba.njit = refuse
with warnings.catch_warnings(record=True) as caught:
    import nanodiff
print(len(caught), "NUMBA_CACHE_DIR" in str(caught[0].message))
"""
    assert run(code) == "1 True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_after_use_says_so_at_once():
    code = """
import os, numpy as np
from nanodiff.engine import functions
x, w = np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3))
functions.conv2d(x, w, np.zeros(1))
if os.fork() == 0:
    try:
        functions.conv2d(x, w, np.zeros(1))
    except RuntimeError as error:
        print("spawn" in str(error), flush=True)
    os._exit(0)
os.wait()
"""
    assert run(code) == "True"


def test_the_environment_chooses_and_a_missing_numba_warns():
    code = "from nanodiff.engine import functions as f; print(f.conv2d.__module__)"
    assert run(code, NANODIFF_PLAIN="1") == "nanodiff.plain"
    assert run(code, NANODIFF_PLAIN="0") == "nanodiff.fast.convolve"
    hidden = """
import sys, warnings
sys.modules["numba"] = None
with warnings.catch_warnings(record=True) as caught:
    from nanodiff import engine
word = str(caught[0].message)
print(engine.functions.conv2d.__module__, len(caught), "pip install numba" in word)
"""
    assert run(hidden) == "nanodiff.plain 1 True"
