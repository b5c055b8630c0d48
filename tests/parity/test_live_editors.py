"""Editors against PyTorch diffusers' own pipelines, on one tiny Stable Diffusion with equal noise.

Latents are compared after the whole run. EDICT is a community file of diffusers that its package
lacks: there the reference is a plain loop over diffusers' UNet. Three ways of theirs are changed:
latents are the posterior's mean (ours) instead of a draw, noise is handed in, and LEDITS++ is told
how many tokens its concepts have (with transformers 5 it counts padding and the end among them).
"""

import functools

import jax
import jax.numpy as jnp
import live_pipelines as write
import numpy as np
import pytest
from live import MARKS, diffusers, torch
from live_drawing import to_torch

from imagic_jax.backbones import registry
from imagic_jax.backbones.contracts import Extra
from imagic_jax.backbones.generate import Sampling, denoiser, seed_keys
from imagic_jax.diffusion import coupled, inversion
from imagic_jax.diffusion.schedule import Grid, grid
from imagic_jax.editors import ddim_inversion, sdedit
from imagic_jax.editors import semantic_guidance as semantic
from imagic_jax.editors.contracts import Concept, Inputs
from imagic_jax.editors.implicit_masks import Masks
from imagic_jax.editors.ledits_pp import concept_denoiser, words_of

pytestmark = [*MARKS, pytest.mark.filterwarnings("ignore::UserWarning")]
SIZE, STEPS, GUIDANCE = 32, 20, 2.0
SOURCE, TARGET, CONCEPTS = "dog now", "a red dog", ("red", "do now")
THREE_LEVELS = {
    "block_out_channels": [16, 16, 24],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3,
    "up_block_types": ["CrossAttnUpBlock2D"] * 3,
    "sample_size": SIZE // 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Stable Diffusion of 32 pixels whose UNet reads words on 16, 8 and 4 cells per side."""
    small, write._SD = write._SD, write._SD | THREE_LEVELS
    try:
        return write.write_sd1(tmp_path_factory.mktemp("live") / "sd")
    finally:
        write._SD = small


@pytest.fixture(scope="module")
def ours(folder):
    return registry.open_model(folder, SIZE).load()


@pytest.fixture(autouse=True)
def the_mean(monkeypatch):
    """Their autoencoder, too, gives the posterior's mean."""
    kind = diffusers.models.autoencoders.vae.DiagonalGaussianDistribution
    monkeypatch.setattr(kind, "sample", lambda self, generator=None: self.mode())


def ddim(folder, kind="DDIMScheduler", **more):
    about = diffusers.PNDMScheduler.from_pretrained(folder / "scheduler").config
    return getattr(diffusers, kind).from_config(about, clip_sample=False, **more)


def pipeline(name, folder, scheduler=None):
    kind = getattr(diffusers, name)
    pipe = kind.from_pretrained(folder, scheduler=scheduler or ddim(folder), safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture():
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    return np.stack([x, y, 1 - x * y], -1)[None].astype(np.float32) * 1.6 - 0.8


def encoded(ours, text):
    return ours.cascade.text.encode(ours.params["text"], [text])


def inputs(ours):
    return Inputs(picture(), encoded(ours, TARGET), encoded(ours, ""), encoded(ours, SOURCE))


def numpy(latents):
    return np.asarray(latents).transpose(0, 2, 3, 1)


def assert_same(parity, name, mine, theirs):
    """The largest error, relative to the largest number: a random network's latents are wide."""
    assert mine.shape == theirs.shape
    assert theirs.std() > 0.1
    assert np.isfinite(theirs).all()
    scale = max(1.0, float(np.abs(theirs).max()))
    assert parity(f"live editor {name}", np.asarray(mine) / scale, theirs / scale) < 1e-3


def test_sdedit_is_img2img(folder, ours, parity, monkeypatch):
    strength, seed = 0.6, 3
    sampling = Sampling(steps=(STEPS,), guidance=(GUIDANCE,), batch=1)
    args = (inputs(ours), None, sdedit.Config(), sampling, (strength,), (seed,))
    mine = sdedit.render(ours.cascade, ours.params, *args)[0]
    shape = ours.cascade.stages[0].sample_shape(1)
    noise = jax.random.normal(jax.random.fold_in(seed_keys([seed], 0)[0], 0), shape)
    module = diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: to_torch(noise))
    pipe = pipeline("StableDiffusionImg2ImgPipeline", folder)
    image = (to_torch(picture()) + 1) / 2
    theirs = pipe(
        TARGET, image, strength, STEPS, guidance_scale=GUIDANCE, output_type="pt"
    ).images  # fmt: skip
    assert_same(parity, "sdedit", mine, numpy(theirs) * 2 - 1)


@torch.no_grad()
def test_ddim_inversion_is_that_of_their_scheduler(folder, ours, parity):
    sampling = Sampling(steps=(STEPS,), guidance=(GUIDANCE,))
    given, config = inputs(ours), ddim_inversion.Config()
    found = ddim_inversion.fit(
        ours.cascade, ours.params, given, config, sampling, jax.random.key(0)
    )
    args = (given, found, config, sampling, (1.0,), (0,))
    mine = ddim_inversion.render(ours.cascade, ours.params, *args)[0]
    pipe = pipeline("StableDiffusionPipeline", folder)
    up = ddim(folder, "DDIMInverseScheduler")
    up.set_timesteps(STEPS)
    x = pipe.vae.encode(to_torch(picture())).latent_dist.mode() * pipe.vae.config.scaling_factor
    for t in up.timesteps:
        noise = pipe.unet(x, t, to_torch(given.source[0].states)).sample
        x = up.step(noise, t, x).prev_sample
    assert_same(parity, "ddim inversion", found.latents[0], numpy(x))
    drawn = pipe(
        TARGET, num_inference_steps=STEPS, guidance_scale=GUIDANCE, latents=x, output_type="pt"
    ).images
    assert_same(parity, "ddim inversion, redrawn", mine, numpy(drawn) * 2 - 1)


# 0.8 would fall on one of the 256 positions exactly, and rounding would say whether it is kept
NUMBERS = [
    {"scale": 2.0, "threshold": 0.81, "warmup": 2, "cooldown": 15, "weight": 0.7},
    {"scale": 3.0, "threshold": 0.9, "warmup": 5, "sign": -1.0},
]


def told(ours, numbers=NUMBERS):
    """The concepts, and how diffusers is told of them."""
    cascade = ours.cascade
    concepts = [
        Concept(encoded(ours, text)[0], tokens=cascade.text.own_tokens(text), **n)
        for text, n in zip(CONCEPTS, numbers, strict=True)
    ]
    theirs = {
        "editing_prompt": list(CONCEPTS),
        "edit_guidance_scale": [c.scale for c in concepts],
        "edit_threshold": [c.threshold for c in concepts],
        "edit_warmup_steps": [c.warmup for c in concepts],
        "edit_cooldown_steps": [c.cooldown for c in concepts],
        "reverse_editing_direction": [c.sign < 0 for c in concepts],
    }
    return concepts, theirs


def test_sega(folder, ours, parity):
    stage, params = ours.cascade.stages[0], ours.params["stages"][0]
    given, (concepts, settings) = inputs(ours), told(ours)
    x = jax.random.normal(jax.random.key(1), stage.sample_shape(1))
    numbers, levels = semantic.numbers(concepts), grid(stage.schedule, STEPS)

    @jax.jit
    def draw(params, null, text, numbers, x):
        first, momentum = jnp.int32(0), semantic.momentum_of(0.3, 0.6)
        denoise = semantic.semantic_denoiser(
            stage, params, null, text, numbers, jnp.float32(GUIDANCE), momentum, first, "mean", 1
        )
        return inversion.replay(denoise, stage.schedule, x, levels, first, jnp.zeros_like(x))

    mine = draw(params, given.null[0], given.target[0], numbers, x)
    pipe = pipeline("SemanticStableDiffusionPipeline", folder)
    theirs = pipe(
        TARGET,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        latents=to_torch(x),
        output_type="latent",
        edit_momentum_scale=0.3,
        edit_mom_beta=0.6,
        edit_weights=[c.weight for c in concepts],
        **settings,
    ).images
    assert_same(parity, "sega", mine, numpy(theirs))


def pp_levels(scheduler, used):
    """The levels that their solver goes between, from its sigmas."""
    sigma = np.asarray(scheduler.sigmas, np.float64)
    abar = 1 / (1 + sigma**2)
    here, after = abar[:-1], abar[1:]
    t = np.asarray(scheduler.timesteps, np.int32)
    columns = (here, 1 - here, after, 1 - after)
    rows = (t, *(c.astype(np.float32) for c in columns))
    return Grid(*(jnp.asarray(r[-used:]) for r in rows))


SOLVERS = {
    "ddpm": ("DDIMScheduler", {}),
    "second order": (
        "DPMSolverMultistepScheduler",
        {
            "algorithm_type": "sde-dpmsolver++",
            "solver_order": 2,
            "final_sigmas_type": "sigma_min",
            "lower_order_final": False,
            "timestep_spacing": "leading",
        },
    ),
}


@pytest.mark.parametrize("masks", ["both", "attention", "noise"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_ledits_pp(solver, masks, folder, ours, parity, monkeypatch):
    skip, used = 0.2, STEPS
    stage, params = ours.cascade.stages[0], ours.params["stages"][0]
    numbers = [{k: v for k, v in n.items() if k != "weight"} for n in NUMBERS]
    given, (concepts, settings) = inputs(ours), told(ours, numbers)
    name, options = SOLVERS[solver]
    scheduler = ddim(folder, name, **options)
    second = solver != "ddpm"
    if second:
        scheduler.set_timesteps(int(used * (1 + skip)))
        levels = pp_levels(scheduler, used)
    else:
        levels = jax.tree.map(lambda a: a[-used:], grid(stage.schedule, int(used * (1 + skip))))
    start = inversion.noised(
        stage.prepare(params, jnp.asarray(picture())),
        levels,
        jax.random.key(2),
        second_order=second,
    )
    noise = iter(range(used - 1, -1, -1))  # theirs is drawn from clean to noisy
    module = diffusers.pipelines.ledits_pp.pipeline_leditspp_stable_diffusion
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: None)
    adding = lambda self, x0, _, t: to_torch(start.latents[next(noise)])  # noqa: E731
    monkeypatch.setattr(type(scheduler), "add_noise", adding)
    pipe = pipeline("LEditsPPPipelineStableDiffusion", folder, scheduler)
    encode, own = pipe.encode_prompt, [int(c.tokens.sum()) for c in concepts]
    monkeypatch.setattr(pipe, "encode_prompt", lambda **given: (*encode(**given)[:2], own))
    pipe.invert((to_torch(picture()) + 1) / 2, num_inversion_steps=used, skip=skip)
    theirs = pipe(
        use_cross_attn_mask=masks != "noise",
        use_intersect_mask=masks == "both",
        output_type="latent",
        **settings,
    ).images

    both = Masks(jnp.bool(masks != "noise"), jnp.bool(masks != "attention"), jnp.ones((1, 1, 1, 1)))
    first = jnp.int32(0)

    @functools.partial(jax.jit, static_argnames="inverting")
    def walk(params, found, null, numbers, inverting):
        if inverting:
            denoise = denoiser(stage, params, null, None, Extra(), jnp.float32(1))
            denoise = inversion.remembering(denoise)
        else:
            words = jnp.asarray(words_of(concepts))
            denoise = concept_denoiser(stage, params, null, numbers, words, both, first)
        flag = jnp.bool(inverting)
        return inversion.ddpm_walk(denoise, stage.schedule, found, levels, first, flag)

    numbers, null = semantic.numbers(concepts), given.null[0]
    found = walk(params, start, null, numbers, True)
    assert_same(
        parity, f"ledits_pp, {solver}: noise maps", found.noises[:, 0], numpy(pipe.zs[:, 0])
    )
    mine = walk(params, found, null, numbers, False).latents[-1]
    assert np.abs(mine - start.latents[-1]).max() > 0.1  # it edits
    assert_same(parity, f"ledits_pp, {solver}, {masks}", mine, numpy(theirs))


@torch.no_grad()
def test_edict(folder, ours, parity):
    stage, params = ours.cascade.stages[0], ours.params["stages"][0]
    given, p, skipped = inputs(ours), 0.93, 4
    pipe, scheduler = pipeline("StableDiffusionPipeline", folder), ddim(folder)
    scheduler.set_timesteps(STEPS)
    abar, stride = scheduler.alphas_cumprod, 1000 // STEPS

    def eps(x, t, cond):
        null, said = (pipe.unet(x, t, to_torch(c.states)).sample for c in (given.null[0], cond))
        return null + GUIDANCE * (said - null)

    def factors(t):
        below = abar[t - stride] if t >= stride else scheduler.final_alpha_cumprod
        a = (below / abar[t]) ** 0.5
        return a, (1 - below) ** 0.5 - a * (1 - abar[t]) ** 0.5

    x0 = pipe.vae.encode(to_torch(picture())).latent_dist.mode() * pipe.vae.config.scaling_factor
    pair, steps = [x0, x0], [int(t) for t in scheduler.timesteps[skipped:]]
    for count, t in enumerate(reversed(steps)):  # from the picture up; even: x goes first
        one, other = (1, 0) if count % 2 == 0 else (0, 1)
        a, b = factors(t)
        pair[1] = (pair[1] - (1 - p) * pair[0]) / p
        pair[0] = (pair[0] - (1 - p) * pair[1]) / p
        pair[other] = (pair[other] - b * eps(pair[one], t, given.source[0])) / a
        pair[one] = (pair[one] - b * eps(pair[other], t, given.source[0])) / a
    top = [numpy(x) for x in pair]
    for count, t in enumerate(steps):
        one, other = (1, 0) if (len(steps) - 1 - count) % 2 == 0 else (0, 1)
        a, b = factors(t)
        pair[one] = a * pair[one] + b * eps(pair[other], t, given.target[0])
        pair[other] = a * pair[other] + b * eps(pair[one], t, given.target[0])
        pair[0] = p * pair[0] + (1 - p) * pair[1]
        pair[1] = p * pair[1] + (1 - p) * pair[0]

    levels, mixing = grid(stage.schedule, STEPS), jnp.float32(p)

    @jax.jit
    def both(params, source, target, null):
        up, down = (
            denoiser(stage, params, c, null, Extra(), jnp.float32(GUIDANCE))
            for c in (source, target)
        )
        x0 = stage.prepare(params, jnp.asarray(picture()))
        found = coupled.invert(up, stage.schedule, x0, levels, mixing)
        start = (found.latents[skipped], found.pair[skipped])
        return start, coupled.replay(
            down, stage.schedule, start, levels, jnp.int32(skipped), mixing
        )

    start, end = both(params, given.source[0], given.target[0], given.null[0])
    for which, mine, theirs in zip("xy", start, top, strict=True):
        assert_same(parity, f"edict, {which} inverted", mine, theirs)
    for which, mine, theirs in zip("xy", end, pair, strict=True):
        assert_same(parity, f"edict, {which} drawn", mine, numpy(theirs))
