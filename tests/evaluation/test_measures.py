"""Scores of the public benchmarks against their definitions written out."""

import numpy as np
import pytest

from imagic_jax.errors import UserError
from imagic_jax.evaluation import measures
from imagic_jax.evaluation.measures import Edits, Measure


def edits(mask=None, count=3, side=16):
    rng = np.random.default_rng(0)
    source, output = rng.random((2, count, side, side, 3), np.float32)
    return Edits(source, output, ("a",) * count, (None,) * count, mask)


def half(count=3, side=16):
    mask = np.zeros((count, side, side), bool)
    mask[:, : side // 2] = True
    return mask


def test_the_background_is_what_the_mask_leaves():
    e = edits(half())
    square = np.square(e.output - e.source)[:, 8:]
    expected = -10 * np.log10(square.mean((1, 2, 3)))
    np.testing.assert_allclose(measures.background_psnr(e), expected, rtol=1e-5)


def test_pie_bench_divides_by_the_whole_frame():
    """Half of the frame is black in both pictures: 3.01 dB too much, half the error."""
    e = edits(half())
    inflation = measures.pie_psnr(e) - measures.background_psnr(e)
    np.testing.assert_allclose(inflation, 10 * np.log10(2), rtol=1e-4)
    square = np.square(e.output - e.source)[:, 8:].mean((1, 2, 3))
    np.testing.assert_allclose(measures.pie_mse(e), 1e4 * square / 2, rtol=1e-5)


def test_without_background_nothing_is_defined():
    e = edits(np.ones((3, 16, 16), bool))
    for score in (measures.background_psnr, measures.pie_psnr, measures.pie_mse):
        assert np.isnan(score(e)).all()
    assert np.isfinite(measures.source_psnr(e)).all()


def test_measures_that_need_masks_are_left_to_benchmarks_that_have_them():
    with_masks, absent = measures.known(masks=True)
    without, _ = measures.known(masks=False)
    assert [m.id for m in without] == ["psnr_source"]
    assert {m.id for m in with_masks} > {m.id for m in without}
    assert all(a.wants for a in absent)


def test_only_a_measure_of_alignment_chooses_unasked():
    plain, _ = measures.known(masks=False)
    aligned = Measure(id="clip", title="CLIP", compute=measures.source_psnr, alignment=True)
    assert measures.chooser(plain, None) is None
    assert measures.chooser([*plain, aligned], None) is aligned
    assert measures.chooser([*plain, aligned], "psnr_source") is plain[0]
    with pytest.raises(UserError, match=r"no score 'x' here \(there are psnr_source\)"):
        measures.chooser(plain, "x")
