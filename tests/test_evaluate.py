"""The judge's gradients, and the Frechet distance against its closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanodiff import data, trained
from nanodiff.evaluate import (
    Judge,
    ScoreCard,
    confusion,
    cross_entropy,
    frechet,
    look,
    matching,
    spread,
    standard_errors,
)
from nanodiff.gradcheck import gradcheck
from tests.strategies import seeds

sizes = st.integers(1, 6)


def features(seed, d, n=50):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + rng.random(d)


@given(seeds, sizes)
def test_a_set_is_at_distance_0_from_itself(seed, d):
    x = features(seed, d)
    assert abs(frechet(x, x)) < 1e-9 * d * x.var()


@given(seeds, sizes)
def test_the_distance_is_symmetric(seed, d):
    a, b = features(seed, d), features(seed + 1, d, n=30)
    np.testing.assert_allclose(frechet(a, b), frechet(b, a), rtol=1e-6, atol=1e-9)


@given(seeds, sizes)
def test_it_is_the_sum_over_directions_if_both_share_them(seed, d):
    # covariances that commute: sum (m1 - m2)^2 + (std1 - std2)^2
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((50, d))
    x = np.linalg.qr(x - x.mean(0))[0] * 7  # covariance 1 in every direction, mean 0
    turn, _ = np.linalg.qr(rng.standard_normal((d, d)))
    scale, shift = rng.uniform(0.2, 3, size=d), rng.standard_normal(d)
    found = frechet(x @ turn.T, (x * scale + shift) @ turn.T)
    want = np.sum(shift**2 + (1 - scale) ** 2)
    np.testing.assert_allclose(found, want, rtol=1e-9)


@given(seeds, sizes)
def test_it_is_the_definition_with_the_root_of_the_plain_product(seed, d):
    a, b = features(seed, d), features(seed + 1, d)
    c1, c2 = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    roots = np.sqrt(np.linalg.eigvals(c1 @ c2).astype(complex)).real.sum()
    gap = np.sum((a.mean(0) - b.mean(0)) ** 2)
    want = gap + np.trace(c1) + np.trace(c2) - 2 * roots
    np.testing.assert_allclose(frechet(a, b), want, rtol=1e-5, atol=1e-6)


@given(seeds, st.integers(2, 5))
def test_the_gradient_of_the_loss_is_its_derivative(seed, classes):
    rng = np.random.default_rng(seed)
    logits, along = rng.standard_normal((2, 3, classes)) * 3
    labels = rng.integers(classes, size=3)
    h = 1e-6
    up, down = (cross_entropy(logits + s * h * along, labels)[0] for s in (1, -1))
    slope = np.vdot(cross_entropy(logits, labels)[1], along)
    np.testing.assert_allclose((up - down) / (2 * h), slope, rtol=1e-6, atol=1e-8)


def test_the_loss_bears_huge_logits():
    loss, dlogits = cross_entropy(np.array([[1e4, 0.0]]), np.array([1]))
    assert loss == 1e4 and np.isfinite(dlogits).all()


def test_the_judge_passes_the_gradient_check():
    rng = np.random.default_rng(0)
    judge = Judge(rng=rng).cast(np.float64)
    gradcheck(judge, rng.standard_normal((2, 1, 28, 28)), rng=rng)


@given(seeds, st.integers(1, 40))
def test_confusion_counts_every_pair_once(seed, n):
    asked, read = np.random.default_rng(seed).integers(10, size=(2, n))
    table = confusion(asked, read)
    assert table.sum() == n and np.trace(table) == (asked == read).sum()
    assert np.array_equal(table.sum(1), np.bincount(asked, minlength=10))


def test_what_the_judge_sees_does_not_depend_on_the_batch():
    judge, (images, _) = trained.judge(), data.mnist("test", n=30)
    features, read = look(judge, images)
    again, same = look(judge, images, batch=7)
    assert np.array_equal(read, same)
    np.testing.assert_allclose(again, features, atol=1e-4)


def test_the_judge_of_the_package_reads_99_percent_of_2000_test_digits():
    images, labels = data.mnist("test")
    _, read = look(trained.judge(), images)
    assert (read == labels).mean() >= 0.99


def test_noise_is_far_from_digits_and_digits_are_near():
    judge, (images, _) = trained.judge(), data.mnist("test")
    noise = np.random.default_rng(0).standard_normal((1000, 1, 28, 28))
    a, b, far = (look(judge, x)[0] for x in (images[:1000], images[1000:], noise))
    assert frechet(a, far) > 20 * frechet(a, b)


@given(seeds, st.integers(1, 30))
def test_matching_takes_digits_of_the_same_classes_once_each(seed, n):
    labels = np.random.default_rng(seed).integers(10, size=n)
    others = np.tile(np.arange(10), n)
    found = matching(labels, others)
    assert np.array_equal(others[found], labels) and len(set(found)) == n


@given(seeds, st.floats(0.1, 3), st.floats(-5, 5))
def test_spread_is_the_variance_within_a_class_whatever_their_means(seed, scale, apart):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=30)
    x = rng.standard_normal((30, 4))
    moved = scale * x + apart * labels[:, None]
    np.testing.assert_allclose(
        spread(moved, labels), scale**2 * spread(x, labels), rtol=1e-9
    )


@given(seeds, st.integers(2, 6))
def test_the_standard_error_of_a_mean_is_the_deviation_over_the_root_of_n(seed, d):
    rng = np.random.default_rng(seed)
    x = d * rng.standard_normal(400)
    found = standard_errors(lambda x: {"mean": x.mean()}, x, rng, draws=400)
    assert abs(found["mean"] / (x.std() / np.sqrt(400)) - 1) < 0.2  # its own is 0.035


def test_rows_that_are_all_the_same_have_no_error(rng):
    same = np.ones((5, 2))
    assert standard_errors(lambda x: {"sum": x.sum()}, same, rng, 3) == {"sum": 0.0}


def test_a_score_card_gives_real_digits_of_the_same_set_a_perfect_score():
    (images, labels), training = data.mnist("test", n=300), data.mnist(n=1000)
    card = ScoreCard(trained.judge(), images, labels, training)
    score = card.score(images)
    assert abs(score["distance"]) < 1e-3 < card.floor and score["spread"] == 1
    assert score["share"] > 0.98
    assert card.score(images[::-1])["share"] < 0.3  # digits that were not asked for


def test_a_card_of_mnist_is_drawn_from_all_test_digits_by_its_seed():
    one, same, other = (
        ScoreCard.of_mnist(trained.judge(), 50, seed=seed) for seed in (0, 0, 1)
    )
    assert np.array_equal(one.features, same.features) and one.floor == same.floor
    assert not np.array_equal(one.labels, other.labels)


@pytest.mark.parametrize("a, b", [((5, 2), (5, 3)), ((1, 2), (5, 2)), ((5,), (5,))])
def test_bad_input_is_named(a, b):
    with pytest.raises(ValueError, match=r"features have shapes .* expected"):
        frechet(np.zeros(a), np.zeros(b))
    with pytest.raises(ValueError, match="others has 1 of class 4, expected 2"):
        matching(np.array([4, 4]), np.array([4, 0]))
    with pytest.raises(ValueError, match="n is 2001, expected 1..2000"):
        ScoreCard.of_mnist(trained.judge(), 2001)
