"""Each checker converts what a caller may mean, and refuses the rest by name."""

import re

import numpy as np
import pytest

from nanodiff import check

REAL = [1, 0.5, np.float16(0.5), np.float32(0.5), np.int8(1), np.array(0.5)]
THREE = np.timedelta64(3)  # of NumPy's integers
NO_NUMBER = [None, "1", True, np.True_, np.nan, np.inf, 10**400, 1j, [1.0], THREE]
NO_INTEGER = [
    None,
    "1",
    True,
    1.0,
    np.float32(1),
    np.nan,
    [1],
    10**400,
    2**24 + 1,
    THREE,
]


def refused(name, make, *args, **kwargs):
    with pytest.raises(ValueError, match=rf"^{re.escape(name)}\b.*, expected "):
        make(name, *args, **kwargs)
    return True


@pytest.mark.parametrize("value", REAL)
def test_numbers_of_any_width_become_floats(value):
    found = check.number("eta", value, 0, 1)
    assert type(found) is float and found == value


@pytest.mark.parametrize("value", NO_NUMBER, ids=str)
def test_what_is_no_finite_number_is_refused(value):
    assert refused("eta", check.number, value)


def test_limits_are_allowed_and_beyond_them_is_refused():
    assert check.number("eta", 0, 0, 1) == 0 and check.number("eta", 1, 0, 1) == 1
    for value in (-0.1, 1.1):
        refused("eta", check.number, value, 0, 1)
    for value in (0, -1):
        refused("clip", check.number, value, above=0)
    assert check.clip(None) is None and check.clip(2) == 2
    with pytest.raises(ValueError, match="clip is -1, expected above 0"):
        check.clip(-1)
    assert check.number("b1", 0, 0, below=1) == 0
    refused("b1", check.number, 1, 0, below=1)


@pytest.mark.parametrize("value", NO_INTEGER, ids=str)
def test_integers_are_no_floats_and_no_bools(value):
    for kind in (np.int8, np.uint64, int, np.array):
        found = check.integer("n", kind(7), 1, 9)
        assert type(found) is int and found == 7
    assert refused("n", check.integer, value, 0)


def test_integers_keep_within_their_limits():
    for value in (0, 10, 10**30):
        refused("n", check.integer, value, 1, 9)
    assert check.width("n_in", 2**16) == 2**16 and refused("n_in", check.width, 2**17)
    assert check.even("size", 4) == 4 and check.divisor("groups", np.int8(4), 8) == 4
    for value in (0, 3, 16, -4, 4.0):
        refused("groups", check.divisor, value, 8)
    for value in (0, 3):
        refused("size", check.even, value)


def test_flags_are_bools_of_python_or_numpy():
    assert check.flag("silu", np.True_) is True and check.flag("silu", False) is False
    for value in (None, 1, 0, "yes", np.ones(2, bool)):
        refused("silu", check.flag, value)


def test_a_choice_is_one_of_the_known():
    assert check.choice("predicts", np.str_("v"), ("eps", "v")) == "v"
    assert type(check.choice("kernel", np.int64(3), (1, 3))) is int
    for value in (None, "x", True, [], ["v"], np.array(["v", "v"]), 1.0):
        refused("kernel", check.choice, value, ("v", 1, 3))


def test_arrays_are_of_floats_of_the_shape_and_dtype_wanted():
    assert check.array("x", [[1.0, 2.0]], ("N", 2)).dtype == np.float64
    assert check.array("x", np.ones((2, 3, 4), np.float32), ("N", ...)).shape == (
        2,
        3,
        4,
    )
    for value in (None, "x", 1.0, [1, 2], [True], [1j], [[1.0], [1.0, 2.0]], {}):
        refused("x", check.array, value, ("N",))
    for shape in ((3,), ("N", 2), (2, ...), ("N", "C", ...)):
        refused("x", check.array, np.ones(4), shape)
    refused("x", check.array, np.ones((0, 2)), ("N", 2))
    refused("x", check.array, np.ma.masked_array([1.0, 2.0], [True, False]))
    refused("x", check.array, np.array([1, 2], "m8[s]"))
    refused("x", check.array, np.ones(2), ("N",), np.float32)
    refused("x", check.array, np.ones(2, np.float16), ("N",), np.dtype(np.float32))


def test_tables_and_contexts_may_be_of_integers():
    assert check.reals("beta", [1, 2]).dtype == np.float64
    assert check.context("context", np.eye(2, dtype=int)).dtype == np.float32
    assert check.context("context", np.eye(2)).dtype == np.float64
    for value in (None, [True], ["1"], [1j]):
        refused("beta", check.reals, value)
    for value in (np.ones(3), np.ones((2, 0)), np.eye(2) > 0):
        refused("context", check.context, value)


def test_labels_and_times_are_integers_within_their_limits():
    np.testing.assert_array_equal(check.integers("labels", [0, 2], 0, 2), [0, 2])
    for value in ([0, 3], [-1, 0], [0.0, 1.0], [True], [], 1, [[1]], None):
        refused("labels", check.integers, value, 0, 2)
    assert check.times("t", 3, 2).tolist() == [3, 3]
    for value in (3.0, [1, 2, 3], -1, None, [[1, 2]]):
        refused("t", check.times, value, 2)


def test_arrays_that_go_together_are_of_one_shape():
    a, b = check.alike(a=[1.0], b=[2.0])
    assert a.shape == b.shape == (1,)
    with pytest.raises(ValueError, match=r"b has shape \(2,\), expected a's \(1,\)"):
        check.alike(a=[1.0], b=[1.0, 2.0])


def test_what_is_not_finite_is_counted():
    check.finite("images", np.ones(3))
    with pytest.raises(
        ValueError, match="images has 2 of 4 values that are NaN or inf"
    ):
        check.finite("images", np.array([1, np.nan, np.inf, 0]))


def test_a_seed_is_no_generator():
    rng = np.random.default_rng(0)
    assert check.generator("rng", rng, "integers", "random") is rng
    for value in (0, None, np.random, np.random.Generator):
        refused("rng", check.generator, value, "integers", "random", "permuted")


def test_dicts_dtypes_functions_paths_and_the_rest():
    w = {"w": np.ones(2)}
    assert check.arrays("params", w) is w and check.entries("sets", {"a": 1})
    for value in (None, [1], {"w": [1.0]}, {"w": np.ones(2, int)}):
        refused("params", check.arrays, value)
    for value in (None, {}, [1]):
        refused("sets", check.entries, value)
    assert check.dtype("dtype", "f4") == np.float32
    for value in (None, "half", np.float16, int, 3):
        refused("dtype", check.dtype, value)
    refused("model", check.function, 3)
    refused("path", check.path, "")
    refused("path", check.path, 3)
    refused("path", check.path, "\0")
    refused("path", check.path, "x" * 300)
    assert check.path("path", "nowhere/file") == "nowhere/file"
    check.function("model", lambda xt, t, context=None: xt, takes=2)
    refused("model", check.function, lambda xt: xt, takes=2)
    refused("model", check.function, float, takes=2)
    refused("xlabel", check.instance, 3, str)
    assert check.instance("about", {}, dict) == {}
    refused("x0", check.at_least_two, np.ones(1))
    refused("losses", check.series, [np.nan])
    for value in (None, type("Made", (), {"T": 1})()):
        with pytest.raises(ValueError, match="schedule is .*, expected a Schedule"):
            check.schedule(value)
    with pytest.raises(ValueError, match="model is 3, expected a network with forward"):
        check.network(3)
