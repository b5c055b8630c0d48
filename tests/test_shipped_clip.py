"""The CLIP pair that comes with the package tells pictures apart by their captions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.backbones.registry import MODELS
from imagic_jax.evaluation.items import items
from imagic_jax.weights import load_part
from imagic_jax.weights.pretrained_tokenizer import load_tokenizer

FOLDER = MODELS / "flatland-clip"


@pytest.fixture(scope="module")
def fitting():
    """Function (pictures in [0, 1], texts) -> how well each picture fits each text."""
    model, params = load_part(FOLDER)
    tokenizer = load_tokenizer(FOLDER)
    apply = jax.jit(lambda ids, x: model.apply({"params": params}, ids, x).logits_per_image)

    def score(pictures, texts):
        ids, _ = tokenizer(texts)
        return np.asarray(apply(jnp.asarray(ids), jnp.asarray(pictures) * 2.0 - 1.0))

    return score


def test_the_ideal_edit_fits_its_text_better_than_the_source(fitting):
    chosen = items("validation", 16)
    both = [i.pictures() for i in chosen]  # the source, and all ideal edits
    texts = [i.text for i in chosen]
    before = fitting(np.stack([source for source, _ in both]), texts).diagonal()
    after = fitting(np.stack([ideals[0] for _, ideals in both]), texts).diagonal()
    assert (after > before).mean() >= 15 / 16
    assert np.median(after - before) > 1.0
