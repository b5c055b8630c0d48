"""What a trained autoencoder and a trained CLIP pair are worth, on pictures drawn afresh."""

import random
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from imagic_jax.flatland import captions, nuisance, splits
from imagic_jax.flatland import factors as fx
from imagic_jax.flatland.factors import Factors
from imagic_jax.flatland.render import render
from imagic_jax.metrics.psnr import psnr
from imagic_jax.training.clip_task import ClipTask
from imagic_jax.training.data import CaptionTable
from imagic_jax.training.vae_task import VaeTask
from imagic_jax.typing import Params
from imagic_jax.weights.tokenizer import Tokenizer

_BATCHES = 16
_PICTURES = 240


def autoencoder(
    task: VaeTask, params: Params, table: CaptionTable, key: PRNGKeyArray
) -> dict[str, float]:
    """The latents' deviation, and the PSNR of reconstructions (dB, mean over pictures)."""

    @jax.jit
    def once(key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        image = task.draw(table, key)
        mean: Any = task.vae.apply({"params": params}, image, method="encode")
        made: Any = task.vae.apply({"params": params}, mean[0], method="decode")
        return mean[0].mean(), jnp.square(mean[0]).mean(), psnr(jnp.clip(made, -1.0, 1.0), image)

    means, squares, quality = zip(*(once(k) for k in jax.random.split(key, _BATCHES)), strict=True)
    variance = np.mean(squares) - np.mean(means) ** 2
    return {"deviation": float(np.sqrt(variance)), "psnr": float(np.mean(np.stack(quality)))}


def pair(task: ClipTask, params: Params, tokenizer: Tokenizer) -> dict[str, float]:
    """How often the pair tells a picture's caption from those that name one factor otherwise.

    Returns:
        Per factor, the share of fresh pictures whose own value scores highest among all values
        that the factor can take; all other factors are named rightly in every caption.
    """
    score, size = _scorer(task, params, tokenizer), task.model.config.vision.image_size
    draw = jax.jit(render, static_argnames="size")
    right: dict[str, list[bool]] = {n: [] for n in fx.FACTOR_NAMES}
    for i in range(_PICTURES):
        rng = random.Random(f"pair/{i}")
        f = splits.draw_factors(rng, i % len(fx.CLASSES), "train")
        u = nuisance.sample(jax.random.key(1_000_000 + i), "wide", marks=bool(i % 2))
        picture = draw(f, u, size=size)
        options = {n: _options(f, n) for n in fx.FACTOR_NAMES}
        rows = [row for row in options.values() if len(row) > 1]
        scores = score(picture, [_full_caption(g, rng) for row in rows for g in row])
        for name, row in options.items():
            if len(row) > 1:
                here, scores = scores[: len(row)], scores[len(row) :]
                right[name].append(row[int(np.argmax(here))] == f)
    return {n: round(float(np.mean(r)), 3) for n, r in right.items() if r}


def _options(f: Factors, name: str) -> list[Factors]:
    """`f` with every value that one factor can take."""
    return [fx.with_factor(f, name, v) for v in range(len(fx.values(name, int(f.cls))))]


def _full_caption(f: Factors, rng: random.Random) -> str:
    return captions.caption(f, captions.nameable_factors(f), rng, "train")


def _scorer(
    task: ClipTask, params: Params, tokenizer: Tokenizer
) -> Callable[[Array, list[str]], np.ndarray]:
    """Function (picture in [0, 1], texts) -> how well each text fits."""
    most = sum(max(len(fx.values(n, c)) for c in range(len(fx.CLASSES))) for n in fx.FACTOR_NAMES)
    apply = jax.jit(lambda ids, x: task.model.apply({"params": params}, ids, x))

    def score(picture: Array, texts: list[str]) -> np.ndarray:
        ids, _ = tokenizer([*texts, *[""] * (most - len(texts))])
        out: Any = apply(jnp.asarray(ids), picture[None] * 2.0 - 1.0)
        return np.asarray(out.logits_per_image)[0, : len(texts)]

    return score
