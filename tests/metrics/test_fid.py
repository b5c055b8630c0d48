"""FID and KID against closed forms and their definitions."""

import numpy as np
import pytest

from imagic_jax.metrics.fid import Moments, fid, kid, kid_of_subsets, moments

RANDOM = np.random.RandomState(0)
A, B = RANDOM.randn(14, 6), 0.5 + 1.5 * RANDOM.randn(11, 6)


def test_distance_of_known_gaussians():
    mean, one = np.zeros(3), np.eye(3)
    assert fid(Moments(mean, one), Moments(mean + 2.0, one)) == pytest.approx(12.0)
    variances = np.asarray([1.0, 4.0, 9.0])
    expected = np.square(np.sqrt(variances) - 1.0).sum()
    assert fid(Moments(mean, one), Moments(mean, np.diag(variances))) == pytest.approx(expected)
    turn = np.linalg.qr(RANDOM.randn(3, 3))[0]  # they need not commute
    first, second = turn * [1, 2, 3] @ turn.T, np.diag([0.5, 2.0, 4.0])
    cross = np.sqrt(np.linalg.eigvals(first @ second).real).sum()
    expected = np.trace(first) + np.trace(second) - 2 * cross
    assert fid(Moments(mean, first), Moments(mean, second)) == pytest.approx(expected)


def test_fewer_pictures_than_features():
    few, more = moments(RANDOM.randn(4, 20)), moments(RANDOM.randn(5, 20))
    assert fid(few, few) == pytest.approx(0.0, abs=1e-5)
    assert np.isfinite(fid(few, more))
    assert fid(few, more) == pytest.approx(fid(more, few), abs=1e-5)


def test_moments_are_the_samples():
    found = moments(A)
    np.testing.assert_allclose(found.mean, A.mean(0))
    np.testing.assert_allclose(found.covariance, np.cov(A.T))
    for bad, said in ((A[:1], "1 pictures"), (np.full((3, 2), np.nan), "not finite")):
        with pytest.raises(ValueError, match=said):
            moments(bad)


def naive(x, y):
    """KID by its definition."""

    def kernel(a, b):
        return (a @ b / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = np.mean([kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j])
    yy = np.mean([kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j])
    return xx + yy - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_kid_is_its_definition():
    found = kid(A, B)
    assert found.value == pytest.approx(naive(A, B), rel=1e-10)
    x = [naive(np.delete(A, i, 0), B) for i in range(len(A))]
    y = [naive(A, np.delete(B, i, 0)) for i in range(len(B))]
    variance = np.var(x) * (len(A) - 1) + np.var(y) * (len(B) - 1)
    assert found.error == pytest.approx(np.sqrt(variance), rel=1e-8)


def test_kid_is_unbiased_and_its_error_honest():
    random = np.random.RandomState(1)
    found = [kid(random.randn(30, 4), random.randn(30, 4)) for _ in range(300)]
    values = np.asarray([f.value for f in found])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert 0.6 < np.mean([f.error for f in found]) / values.std() < 1.7


def test_subsets_are_means_over_whole_sets_where_those_are_all():
    found = kid_of_subsets(A[:10], B[:10], subsets=3, size=10)
    assert found.value == pytest.approx(naive(A[:10], B[:10]), rel=1e-10)
    assert found.error == pytest.approx(0.0, abs=1e-10)
    with pytest.raises(ValueError, match="at least 50"):
        kid_of_subsets(A, B, size=50)
