"""Texts become the states that PyTorch's pipelines give to their UNets, the empty text too."""

import live_pipelines as write
import numpy as np
import pytest
from live import MARKS, diffusers, torch

from imagic_jax.backbones import registry

pytestmark = list(MARKS)
TEXTS = ("A photo of a RED dog!", "", "dog " * 100, "  two\n  dogs, née Xq  ")
TOLERANCE = 2e-5


def ours(folder, text):
    """The condition of the first stage."""
    opened = registry.open_model(folder)
    return opened.cascade.text.encode(opened.load_text(), [text])[0]


def assert_states(parity, name, cond, states, pooled=None):
    for a, b in ((cond.states, states), (cond.pooled, pooled)):
        assert (a is None) == (b is None)
        if a is not None:
            a, b = np.asarray(a), b.detach().numpy()
            assert a.shape == b.shape
            assert parity(f"live text {name}", a, b) < TOLERANCE


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_stable_diffusion(tmp_path, parity, kind):
    folder = getattr(write, f"write_{kind}")(tmp_path / "sd")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    with torch.no_grad():
        for text in TEXTS:
            said, empty = pipe.encode_prompt(text, "cpu", 1, True)
            assert_states(parity, kind, ours(folder, text), said)
            assert_states(parity, kind, ours(folder, ""), empty)


def test_sdxl(tmp_path, parity):
    folder = write.write_sdxl(tmp_path / "xl")
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(folder)
    with torch.no_grad():
        for text in ("A photo of a RED dog!", "dog " * 100):
            said, empty, pooled, empty_pooled = pipe.encode_prompt(text)
            assert_states(parity, "sdxl", ours(folder, text), said, pooled)
            assert_states(parity, "sdxl", ours(folder, ""), empty, empty_pooled)
        assert not empty.any()
        _, away, _, away_pooled = pipe.encode_prompt("a dog", negative_prompt="a cat")
        assert_states(parity, "sdxl", ours(folder, "a cat"), away, away_pooled)


def test_sdxl_that_does_not_zero_the_empty_text(tmp_path, parity):
    folder = write.write_sdxl(tmp_path / "xl")
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(folder)
    pipe.register_to_config(force_zeros_for_empty_prompt=False)
    pipe.save_config(folder)
    with torch.no_grad():
        _, empty, _, pooled = pipe.encode_prompt("a dog")
    assert empty.any()
    assert_states(parity, "sdxl", ours(folder, ""), empty, pooled)


def test_deepfloyd_if(tmp_path, parity):
    first, _ = write.write_if(tmp_path)
    pipe = diffusers.IFPipeline.from_pretrained(first)
    with torch.no_grad():
        for text in TEXTS:
            said, empty = pipe.encode_prompt(text, clean_caption=False)
            assert_states(parity, "if", ours(first, text), said)
            assert_states(parity, "if", ours(first, ""), empty)


def test_x4_upscaler(tmp_path, parity):
    stages = [*write.write_if(tmp_path), write.write_x4(tmp_path / "x4" / "model")]
    opened = registry.open_model(",".join(map(str, stages)))
    pipe = diffusers.StableDiffusionUpscalePipeline.from_pretrained(stages[-1])
    conds = opened.cascade.text.encode(opened.load_text(), ["a red dog!"])
    with torch.no_grad():
        said, _ = pipe.encode_prompt("a red dog!", "cpu", 1, True)
    assert_states(parity, "x4", conds[2], said)
    assert conds[0].states is conds[1].states
