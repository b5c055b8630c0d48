"""Statistics against closed forms, and against scipy where it has the same."""

import numpy as np
import pytest
from scipy import stats

from imagic_jax.evaluation import statistics as st

RNG = np.random.default_rng(7)


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (20, 20), (3, 40), (17, 23)])
def test_wilson_is_scipys(hits, n):
    ours = st.wilson(hits, n)
    theirs = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert ours[:3] == pytest.approx((hits / n, theirs.low, theirs.high), abs=1e-12)


def test_no_success_and_all_successes_use_wilson_over_sources():
    """Four seeds of ten sources are ten trials, not forty."""
    assert st.rate(np.zeros((10, 4))) == st.wilson(0, 10)
    assert st.rate(np.ones((10, 4))) == st.wilson(10, 10)
    assert st.rate(np.eye(10)[:, :4]).kind == "bca"


@pytest.mark.parametrize(
    ("ours", "theirs"), [(st.mean_of_sources, np.mean), (st.median_of_sources, np.median)]
)
def test_one_seed_and_one_stratum_is_scipys_bca(ours, theirs):
    sample = RNG.gamma(1.5, size=41)
    found = st.bootstrap(sample[:, None], ours, resamples=8000)
    want = stats.bootstrap(
        (sample,), theirs, n_resamples=8000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    width = want.high - want.low
    assert found.kind == "bca"
    assert found.estimate == pytest.approx(theirs(sample))
    assert found.low == pytest.approx(want.low, abs=0.06 * width)
    assert found.high == pytest.approx(want.high, abs=0.06 * width)


def test_bca_quantiles_are_their_closed_form():
    """Without skew or bias they are the plain tails; the acceleration is that of Efron (1987)."""
    found = np.linspace(-1, 1, 4001)
    assert st.bca_shares(found, 0.0, np.array([-1.0, 0.0, 1.0]), 0.9) == pytest.approx((0.05, 0.95))
    left = np.array([0.0, 0.0, 3.0])
    pull = left.mean() - left
    a = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    z = stats.norm.ppf(0.05)
    want = stats.norm.cdf(z / (1 - a * z))
    assert st.bca_shares(found, 0.0, left, 0.9)[0] == pytest.approx(want)
    assert st.bca_shares(found, -2.0, left, 0.9) is None
    assert st.bca_shares(found, 0.0, np.ones(3), 0.9) is None


def test_the_width_of_a_mean_is_the_normal_one():
    """Sources of spread 1 with seeds of spread 0.5: sd of the mean = sqrt((1 + .25 / k) / n)."""
    n, k = 400, 4
    values = RNG.normal(size=(n, 1)) + 0.5 * RNG.normal(size=(n, k))
    found = st.bootstrap(values, resamples=4000)
    # Seeds are resampled within their source as well, which adds their variance once more.
    within = values.var(axis=1).mean() / k
    sd = np.sqrt((values.mean(axis=1).var() + within) / n)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * sd, rel=0.05)


def test_seeds_of_one_source_are_no_independent_sources():
    column = RNG.normal(size=(30, 1))
    one = st.bootstrap(column, resamples=2000)
    copied = st.bootstrap(np.repeat(column, 8, axis=1), resamples=2000)
    rows = st.bootstrap(np.repeat(column, 8, axis=0), resamples=2000)
    assert copied.high - copied.low == pytest.approx(one.high - one.low, rel=0.08)
    assert rows.high - rows.low < 0.5 * (one.high - one.low)


def test_strata_keep_their_sizes():
    """Between-stratum spread does not enter: two constant strata leave no uncertainty."""
    values = np.array([[0.0]] * 6 + [[1.0]] * 2)
    strata = ["a"] * 6 + ["b"] * 2
    found = st.bootstrap(values, strata=strata, resamples=500)
    assert found[:3] == (0.25, 0.25, 0.25)
    assert st.bootstrap(values, resamples=500).high > 0.5


def test_a_missing_seed_is_no_zero():
    values = np.array([[1.0, np.nan], [0.0, 1.0]])
    assert float(st.mean_of_sources(values)) == 0.75
    kept, strata, lost = st.with_sources(np.array([[np.nan, np.nan], [1.0, np.nan]]), ["a", "b"])
    assert (kept.shape, strata, lost) == ((1, 2), ["b"], 1)
    assert st.bootstrap(np.empty((0, 4))).kind == "none"


def test_sign_flips_are_scipys_permutations():
    few = RNG.normal(0.5, 1.0, size=9)
    want = stats.permutation_test(
        (few,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    ).pvalue
    assert st.sign_flip(few) == pytest.approx(want)
    many = RNG.normal(0.2, 1.0, size=80)
    want = stats.permutation_test(
        (many,), np.sum, permutation_type="samples", n_resamples=10_000, rng=RNG
    ).pvalue
    assert st.sign_flip(many) == pytest.approx(want, abs=0.02)


def test_alike_methods_have_p_one_and_a_monte_carlo_p_is_never_zero():
    assert st.sign_flip(np.zeros(50)) == 1.0
    assert st.sign_flip(np.ones(3)) == 0.25  # +++ and --- of eight
    assert st.sign_flip(np.ones(60), draws=999) == pytest.approx(1 / 1000)


def test_holm_by_hand():
    adjusted = st.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert st.holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_a_paired_difference_knows_what_both_share():
    hard = RNG.normal(size=(60, 1)) * 3
    a = hard + 0.4 + 0.1 * RNG.normal(size=(60, 2))
    b = hard + 0.1 * RNG.normal(size=(60, 2))
    found = st.compare(a, b, resamples=1000)
    assert 0.3 < found.difference.low < 0.4 < found.difference.high < 0.5
    assert found.p < 0.001
    assert found.superiority.estimate == 1.0
    same = st.compare(b, b, resamples=200)
    assert same.superiority[:3] == (0.5, 0.5, 0.5)
    assert same.p == 1.0


def test_spearman_is_scipys_with_ties():
    x = RNG.integers(0, 5, 40).astype(float)
    y = x + RNG.integers(0, 4, 40)
    assert st.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert np.isnan(st.spearman(x, np.ones(40)))
