"""Which scores a public benchmark shows, and which one may choose."""

import pytest

from imagic_jax.errors import UserError
from imagic_jax.evaluation import measures
from imagic_jax.metrics import catalog


def test_without_weights_the_plain_scores_are_left_and_the_others_say_what_they_want():
    opened = measures.open_for(None, masks=False, weights=None)
    assert [m.name for m in opened.metrics] == ["psnr", "ssim"]
    assert set(opened.missing) == set(measures.WITHOUT_MASKS) - {"psnr", "ssim"}
    assert "alexnet-owt-7be5be79" in opened.missing["lpips_alex"]
    masked = measures.open_for(None, masks=True, weights=None)
    assert [m.name for m in masked.metrics] == [
        "psnr", "ssim", "psnr_background", "ssim_background", "pie_psnr", "pie_mse", "pie_ssim",
    ]  # fmt: skip


@pytest.mark.parametrize("names", [measures.WITHOUT_MASKS, measures.WITH_MASKS, measures.ALIGNMENT])
def test_every_score_is_in_the_catalog(names):
    assert not set(names) - set(catalog.CATALOG)


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["beauty"], "no metric 'beauty'"),
        (["psnr_background"], "psnr_background needs what this benchmark does not give"),
        (["lpips_vgg"], "none can be computed .*lpips_vgg"),
    ],
)
def test_scores_that_cannot_be(names, named):
    with pytest.raises(UserError, match=named):
        measures.open_for(names, masks=False, weights=None)


def test_only_a_score_of_alignment_chooses_unasked():
    plain = [catalog.CATALOG[n] for n in ("psnr", "ssim")]
    aligned = catalog.CATALOG["clip_cos"]
    assert measures.chooser(plain, None) is None
    assert measures.chooser([*plain, aligned], None) is aligned
    assert measures.chooser([*plain, aligned], "psnr") is plain[0]
    with pytest.raises(UserError, match=r"no score 'x' here \(there are psnr, ssim\)"):
        measures.chooser(plain, "x")
