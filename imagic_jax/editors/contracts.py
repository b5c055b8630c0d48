"""What an editing method is, besides Imagic: its inputs, its two verbs, and what it says of itself.

A method is a module with a frozen `Config`, `fit` (an inversion, or nothing) and `render`, and one
`METHOD` that names them. It edits the base stage; the stages behind it then draw the edited picture
larger under the target text, as Imagic's do. `editors.methods` lists all of them.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Key

from imagic_jax.backbones.contracts import Cascade, Cond, repeat
from imagic_jax.backbones.generate import Sampling, generate, seed_keys
from imagic_jax.backbones.pixels import resize, touched
from imagic_jax.diffusion.schedule import steps_left_out
from imagic_jax.editors.words import Words
from imagic_jax.errors import UserError
from imagic_jax.metrics.clip_guidance import Scorer
from imagic_jax.typing import Params

#: What a method may want besides the picture and the target text, and what of the model it uses.
Need = Literal["source text", "mask", "concepts", "clip", "words", "gradients", "attention"]
Pictures = Float[np.ndarray, "k s h w 3"]


#: A traced number, or an array of one for each of several concepts (`semantic_guidance.numbers`).
Traced = Any


class Concept(NamedTuple):
    """A direction in which a picture is moved (SEGA, LEDITS): arrays and traced numbers alone."""

    cond: Cond  # of the base stage, batch of 1
    sign: Traced = 1.0  # -1 removes the concept
    scale: Traced = 7.0
    threshold: Traced = 0.95  # quantile: the share of the positions that is left alone
    warmup: Traced = 2  # steps before it begins
    cooldown: Traced = 2**30  # steps after which it ends
    weight: Traced = 1.0
    tokens: Float[Array, "1 l"] | None = None  # 1 at its own words (`CascadeText.own_tokens`)


class Inputs(NamedTuple):
    """What a method works on. Texts are one `Cond` per stage, batch of 1."""

    image: Float[Array, "1 s s 3"]  # in [-1, 1], square
    target: tuple[Cond, ...]
    null: tuple[Cond, ...]  # the empty or negative text
    source: tuple[Cond, ...] | None = None  # a text that is true of the picture
    concepts: tuple[Concept, ...] = ()
    mask: Float[Array, "1 s s 1"] | None = None  # 1 where the edit may happen
    clip: Scorer | None = None  # CLIP, and the target text as it reads it
    words: Words | None = None  # how source and target text belong together (`words.align`)


class Cost(NamedTuple):
    """Model evaluations of one edit: rows that pass through the base's UNet.

    A gradient through it counts as two further ones.
    """

    fit: int
    render: int  # per picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """One editing method, as commands, benchmarks and pages see it.

    Attributes:
        name, title, paper: "sdedit", "SDEdit", "Meng et al. 2022, arXiv:2108.01073".
        summary: one sentence: what it does.
        needs: what it cannot do without.
        takes: what it uses where it is given.
        config: its frozen settings; every field has a default.
        knob: the field of `config` that trades the picture for the text: the strength.
        strengths: eleven values of the knob, from least to most edit: the equal budget of a
            benchmark.
        fit: (cascade, params, inputs, config, sampling, key) -> pytree of arrays, or None.
        render: (cascade, params, inputs, fit, config, sampling, strengths, seeds) -> pictures of
            the base stage, (strengths, seeds, s, s, 3) in [-1, 1]. Neither a strength, a seed, a
            text nor a picture compiles anything anew. Where the noise is found by `fit`, the seed
            changes nothing in the base stage (`same_for_every_seed`).
        cost: (config, sampling, strength) -> Cost. Raises UserError where the strength is out of
            range, so it is asked before anything else.
        check: (config, sampling, whether CLIP is there) -> None. Raises UserError where these do
            not go together; asked, as `cost` is, before anything else.
        refuses: why it cannot work on a cascade, in a sentence, or None.
        keeps_outside: whether what is outside of a mask stays the input's own, to the bit.
    """

    name: str
    title: str
    paper: str
    summary: str
    needs: frozenset[Need] = frozenset()
    takes: frozenset[Need] = frozenset()
    config: type
    knob: str
    strengths: tuple[float, ...]
    fit: Callable[..., Any]
    render: Callable[..., Pictures]
    cost: Callable[[Any, Sampling, float], Cost]
    check: Callable[[Any, Sampling, bool], None] = lambda config, sampling, clip: None
    refuses: Callable[[Cascade], str | None] = lambda cascade: None
    keeps_outside: bool = True


def no_fit(*_: Any) -> None:
    """The `fit` of a method that has nothing to find out before it draws."""


def source_of(inputs: Inputs, method: str) -> tuple[Cond, ...]:
    """The source text of a method that cannot do without.

    Raises:
        UserError: there is none.
    """
    if inputs.source is None:
        raise UserError(
            f"{method} needs a source text: one that is true of the picture as it is"
            " (--source_text)"
        )
    return inputs.source


def mask_of(inputs: Inputs, method: str) -> Float[Array, "1 s s 1"]:
    """The mask of a method that cannot do without.

    Raises:
        UserError: there is none.
    """
    if inputs.mask is None:
        raise UserError(f"{method} needs a mask, white where the picture may change (--mask)")
    return inputs.mask


def clip_of(inputs: Inputs, method: str) -> Scorer:
    """The CLIP model of a method that cannot do without.

    Raises:
        UserError: there is none.
    """
    if inputs.clip is None:
        raise UserError(f"{method} needs a CLIP model, and none is beside this one (--clip=FOLDER)")
    return inputs.clip


def first_step(steps: int, strength: float) -> int:
    """How many of the noisiest steps are left out where the share `strength` of them is done.

    Raises:
        UserError: the strength is no share.
    """
    if not 0.0 <= strength <= 1.0:
        raise UserError(
            f"a strength must be between 0 (the picture) and 1 (all {steps} steps),"
            f" got {strength:g}"
        )
    return steps_left_out(steps, strength)


def share_of(steps: int, share: float, name: str) -> int:
    """How many of the steps the share of them that the setting `name` says is.

    Raises:
        UserError: it is no share.
    """
    if not 0.0 <= share <= 1.0:
        raise UserError(f"{name} is a share of the {steps} steps, between 0 and 1; got {share:g}")
    return round(share * steps)


def same_for_every_seed(
    draw: Callable[[float], Array], strengths: Sequence[float], seeds: Sequence[int]
) -> Pictures:
    """The pictures of a method that draws no noise when it renders: one per strength, repeated.

    Args:
        draw: strength -> picture (1, s, s, 3). One picture at a time, as it was inverted: in a
            batch of another size the model's answers would differ in their last digits.
        strengths, seeds: of the result; the seeds tell the stages behind apart.
    """
    drawn = np.stack([np.asarray(draw(strength)) for strength in strengths])
    return np.repeat(drawn, len(seeds), axis=1)


def in_batches(
    draw: Callable[[Key[Array, " b"]], Array], seeds: Sequence[int], batch: int
) -> Float[np.ndarray, "n h w 3"]:
    """One picture per seed, drawn in micro-batches of one fixed, padded size.

    Args:
        draw: keys (batch,) -> pictures (batch, h, w, 3).
        seeds: of the pictures.
        batch: size of a micro-batch.
    """
    drawn = []
    for start in range(0, len(seeds), batch):
        some = list(seeds[start : start + batch])
        padded = some + [some[-1]] * (batch - len(some))
        drawn.append(np.asarray(draw(seed_keys(padded, 0)))[: len(some)])
    return np.concatenate(drawn)


def enlarge(
    cascade: Cascade,
    params: Params,
    inputs: Inputs,
    pictures: Float[np.ndarray, "k s low low 3"],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    keep: bool = True,
    before_stage: Callable[[str], None] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> Pictures:
    """Draws edited base pictures at the cascade's full size, under the target text.

    Args:
        cascade, params: the model.
        inputs: whose texts are used.
        pictures: (strengths, seeds, s, s, 3) in [-1, 1], from `Method.render`.
        seeds: of the second axis.
        sampling: of the super-resolution stages.
        keep: where a mask is given, what is outside of it is the input's own, to the bit; pass
            `Method.keeps_outside`.
        before_stage, on_batch: see `generate`.

    Returns:
        (strengths, seeds, S, S, 3) in [-1, 1]; the same pictures where there is one stage alone.
    """
    strengths, count = pictures.shape[:2]
    rows = strengths * count
    drawn = generate(
        cascade,
        params["stages"],
        [repeat(c, rows) for c in inputs.target],
        inputs.null,
        list(seeds) * strengths,
        sampling,
        base=pictures.reshape(rows, *pictures.shape[2:]),
        before_stage=before_stage,
        on_batch=on_batch,
    )
    drawn = drawn.reshape(strengths, count, *drawn.shape[1:])
    if inputs.mask is None or not keep:
        return drawn
    return paste(drawn, inputs.image, inputs.mask)


def paste(
    pictures: Float[np.ndarray, "*n s s 3"],
    image: Float[Array, "1 s2 s2 3"],
    mask: Float[Array, "1 s3 s3 1"],
) -> Float[np.ndarray, "*n s s 3"]:
    """`image` where `mask` is 0, to the bit; `pictures` where it is 1; their mixture between.

    A picture and mask of another size are brought to that of `pictures`: the mask then covers every
    pixel that it touches. Methods paste by a mask of 0 and 1; a soft edge is drawn once, at the
    cascade's full size (`enlarge`).
    """
    size = pictures.shape[-2]
    kept = np.asarray(resize(image, size))[0]
    share = np.asarray(mask_at(mask, size))[0]
    return share * pictures + (1 - share) * kept


def mask_at(mask: Float[Array, "1 h w 1"], size: int) -> Float[Array, "1 s s 1"]:
    """A mask at another size: 1 wherever it touches a pixel; as it is at its own size."""
    return mask if mask.shape[1:3] == (size, size) else touched(mask, size)
