"""PyTorch diffusers opens the shipped latent model as it is, and draws our pictures."""

import numpy as np
import pytest
from live import MARKS, torch
from live_drawing import PIPELINES, assert_same_picture, start_noise, to_numpy

from imagic_jax.backbones import registry
from imagic_jax.backbones.contracts import repeat
from imagic_jax.backbones.generate import Sampling, generate

pytestmark = list(MARKS)
TEXTS = ["a red dog in the snow", "a bird spreading its wings at night"]


@pytest.mark.parametrize("text", TEXTS)
def test_its_pipeline_draws_the_same_from_the_same_noise(parity, text):
    loaded = registry.load_cascade("flatland-sd")
    cascade, params = loaded.cascade, loaded.params
    cond, null = (cascade.text.encode(params["text"], [t]) for t in (text, ""))
    sampling = Sampling(steps=(20,), guidance=(4.0,), batch=2)
    ours = generate(cascade, params["stages"], [repeat(cond[0], 2)], null, [3, 8], sampling)
    pipe = PIPELINES["sd"].from_pretrained(registry.MODELS / "flatland-sd")
    pipe.set_progress_bar_config(disable=True)
    for row, seed in enumerate([3, 8]):
        latents, _ = start_noise(cascade.stages[0], seed, 0)
        with torch.no_grad():
            drawn = pipe(
                text,
                latents=latents,
                guidance_scale=4.0,
                num_inference_steps=20,
                output_type="pt",
            ).images
        theirs = to_numpy(drawn) * 2.0 - 1.0
        assert_same_picture(parity, "flatland-sd", np.clip(ours[row], -1, 1), theirs)
