"""Drawing with PyTorch's modules in a plain loop, from the noise that ours starts from."""

import jax
import numpy as np
from live import diffusers, torch

from imagic_jax.backbones import generate

PIPELINES = {
    "sd": diffusers.StableDiffusionPipeline,
    "sdxl": diffusers.StableDiffusionXLPipeline,
    "x4": diffusers.StableDiffusionUpscalePipeline,
    "if": diffusers.IFPipeline,
    "if_sr": diffusers.IFSuperResolutionPipeline,
}


def to_torch(array):
    """A JAX or NumPy array; pictures get their channels first."""
    array = np.array(array)
    return torch.from_numpy(array.transpose(0, 3, 1, 2).copy() if array.ndim == 4 else array)


def to_numpy(picture):
    """(1, C, H, W) to (H, W, C)."""
    return picture[0].numpy().transpose(1, 2, 0)


def start_noise(stage, seed, index):
    """What `generate` starts from, and what it adds to the low-resolution picture."""
    key = generate.seed_keys([seed], index)[0]
    start = jax.random.normal(jax.random.fold_in(key, 0), stage.sample_shape(1))
    if stage.low_res is None:
        return to_torch(start), None
    side = stage.low_res.size if "Latents" in type(stage.codec).__name__ else stage.size
    low = jax.random.normal(jax.random.fold_in(key, 1), (1, side, side, 3))
    return to_torch(start), to_torch(low)


def ddim(pipe):
    """The pipeline's schedule for DDIM; latents are never clipped."""
    change = {} if "IF" in type(pipe).__name__ else {"clip_sample": False}
    return diffusers.DDIMScheduler.from_config(pipe.scheduler.config, **change)


def conditioning(pipe, stage, low, noise):
    """The noised picture on the grid of x_t, and its level."""
    if low is None:
        return None, None
    level = torch.tensor([stage.low_res.sample_level])
    if "IF" in type(pipe).__name__:
        low = torch.nn.functional.interpolate(
            low, size=stage.size, mode="bilinear", align_corners=True
        )
        return pipe.image_noising_scheduler.add_noise(low, noise, level), level
    return pipe.low_res_scheduler.add_noise(low, noise, level), level


@torch.no_grad()
def draw_stage(pipe, stage, cond, null, guidance, steps, noise, low=None):
    """One stage's picture, (1, 3, H, W) in [-1, 1]. `noise` is from `start_noise`."""
    scheduler = ddim(pipe)
    scheduler.set_timesteps(steps)
    x, low_noise = noise
    low, level = conditioning(pipe, stage, low, low_noise)

    def predict(t, cond):
        sample = x if low is None else torch.cat([x, low], 1)
        added = None
        if cond.pooled is not None:
            ids = torch.tensor([[stage.size, stage.size, 0, 0, stage.size, stage.size]])
            added = {"text_embeds": to_torch(cond.pooled), "time_ids": ids}
        states = to_torch(cond.states)
        out = pipe.unet(sample, t, states, class_labels=level, added_cond_kwargs=added).sample
        return out[:, : x.shape[1]]  # without a learned variance

    for t in scheduler.timesteps:
        away, said = predict(t, null), predict(t, cond)
        guided = away + guidance * (said - away)
        x = scheduler.step(guided, t, x, use_clipped_model_output=True).prev_sample
    vae = getattr(pipe, "vae", None)
    if vae is not None:
        x = vae.decode(x / vae.config.scaling_factor).sample
    return x.clamp(-1, 1)


def draw(pipes, cascade, conds, null, sampling, seed):
    """One picture through all stages: (H, W, 3)."""
    picture = None
    for i, (pipe, stage) in enumerate(zip(pipes, cascade.stages, strict=True)):
        scale = 1.0 if sampling.guidance[i] is None else sampling.guidance[i]
        noise = start_noise(stage, seed, i)
        picture = draw_stage(
            pipe, stage, conds[i], null[i], scale, sampling.steps[i], noise, picture
        )
    return to_numpy(picture)


def assert_same_picture(parity, name, ours, theirs):
    """Both are one picture, and one with something on it."""
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.05
    assert (np.abs(theirs) < 0.999).mean() > 0.2  # not merely cut off at both ends
    assert parity(f"live drawing {name}", ours, theirs) < 1e-3
