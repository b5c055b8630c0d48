"""Drawing pictures: every stage of a cascade in turn, in micro-batches of one fixed size.

Results differ by about 1e-4 between batch sizes (another order of summation), so a batch is always
padded to the same size: nothing is compiled twice, and a picture has the same bits whatever else is
in the batch. In another place of the batch it has them too, but for CPUs whose convolutions do not
round every place alike (those without AVX-512; about 1e-5). A picture's noise depends on its seed
and stage alone.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from imagic_jax.backbones.contracts import Cascade, Cond, Extra, Stage, repeat, stack
from imagic_jax.diffusion import sampling as loops
from imagic_jax.diffusion.guidance import guide
from imagic_jax.diffusion.prediction import Prediction
from imagic_jax.diffusion.sampling import Denoiser, Sampler
from imagic_jax.diffusion.schedule import Grid, add_noise, padded_grid, steps_left_out
from imagic_jax.typing import Image, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How pictures are drawn.

    Attributes:
        steps: sampling steps per stage.
        guidance: classifier-free guidance scale per stage; None draws a stage without guidance
            (at half the cost).
        batch: pictures per compiled batch.
        sampler: "ddim" (deterministic) or "ddpm".
        start: share of the base's steps that are done where there is a picture to start from, in
            (0, 1]: below 1 the base starts from that picture, noised to the level of the first
            step done (SDEdit, Meng et al. 2022); 1 starts from noise alone.
    """

    steps: tuple[int, ...]
    guidance: tuple[float | None, ...]
    batch: int = 8
    sampler: Sampler = "ddim"
    start: float = 1.0

    @property
    def from_picture(self) -> bool:
        """Whether the base starts from a picture, where there is one."""
        return self.left_out > 0

    @property
    def left_out(self) -> int:
        """How many of the base's noisiest steps `start` leaves out; the last is always done."""
        return min(steps_left_out(self.steps[0], self.start), self.steps[0] - 1)


def seed_keys(seeds: Sequence[int], stage: int) -> Key[Array, " b"]:
    """One key per seed for a stage: (b,)."""
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
    return jax.vmap(jax.random.fold_in, (0, None))(keys, stage)


@functools.partial(jax.jit, static_argnames=("stage", "guided", "sampler"))
def draw(
    stage: Stage,
    params: Params,
    cond: Cond,
    null: Cond,
    low_res: Image | None,
    keys: Key[Array, " b"],
    guidance: Float[Array, ""],
    levels: Grid,
    num_steps: Int[Array, ""],
    source: Float[Array, "1 _ _ 3"] | None = None,
    *,
    guided: bool,
    sampler: Sampler,
) -> Image:
    """Draws one batch with one stage, from noise to pictures in [-1, 1].

    Args:
        stage, params: the model.
        cond, null: texts, batch of the pictures.
        low_res: pictures of the stage before, or None for a base.
        keys: (b,) one per picture.
        guidance: scale; read where `guided`.
        levels, num_steps: `diffusion.schedule.padded_grid`.
        source: (1, S, S, 3) in [-1, 1], what is noised to the first level to start from; None
            starts from noise alone.
        guided: whether to run the empty text beside the text.
        sampler: see `Sampling`.
    """
    batch = keys.shape[0]
    x = jax.vmap(lambda k: jax.random.normal(jax.random.fold_in(k, 0), stage.sample_shape(1)[1:]))(
        keys
    )
    if source is not None:
        x0 = jnp.broadcast_to(stage.prepare(params, source), x.shape)
        x = add_noise(stage.schedule, x0, x, jnp.broadcast_to(levels.t[0], (batch,)))
    extra = Extra()
    if low_res is not None:
        one_by_one = jax.vmap(
            lambda image, k: stage.conditioning(image[None], None, jax.random.fold_in(k, 1))
        )(low_res, keys)
        extra = jax.tree.map(lambda a: a.reshape(batch, *a.shape[2:]), one_by_one)

    denoise = denoiser(stage, params, cond, null if guided else None, extra, guidance)
    step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 2)
    x0 = loops.sample(denoise, stage.schedule, x, levels, num_steps, step_keys, sampler)
    return stage.finish(params, x0)


def denoiser(
    stage: Stage,
    params: Params,
    cond: Cond,
    null: Cond | None,
    extra: Extra,
    guidance: Float[Array, ""] | Float[Array, " b"],
) -> Denoiser:
    """The guided prediction of one stage as samplers take it: (x_t, t) -> Prediction.

    Args:
        stage, params: the model.
        cond: texts, batch of the pictures.
        null: the empty (or negative) text, same batch; None predicts without guidance, at half
            the cost.
        extra: what a super-resolution stage is conditioned on, same batch.
        guidance: scale, one for all or one for each picture.
    """
    if null is None:
        return lambda x_t, t: stage.predict(params, x_t, t, cond, extra)[0]

    def guided(x_t: Array, t: Array) -> Prediction:
        batch = x_t.shape[0]
        twice = jax.tree.map(lambda a: jnp.concatenate([a, a]), (x_t, extra))
        both, _ = stage.predict(params, twice[0], t, stack(null, cond), twice[1])
        empty, told = (
            jax.tree.map(lambda a, s=s: a[s], both) for s in (slice(batch), slice(batch, None))
        )
        return guide(empty, told, guidance)

    return guided


def drawing_programs(
    cascade: Cascade,
    stage_params: Sequence[Params],
    conds: Sequence[Cond],
    sampling: Sampling,
    place: Callable[[Any], Any] = lambda arguments: arguments,
) -> dict[str, Callable[[], Any]]:
    """The compiled programs of `generate`, as thunks that lower them: "draw STAGE" for each stage.

    Args:
        cascade, stage_params, sampling: as in `generate`, with a picture to start from where
            `sampling.start` wants one.
        conds: one text per stage.
        place: may give the programs' arguments, a tuple of shapes, other shardings.
    """
    batch = sampling.batch

    def shape(*size: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(size, dtype)

    def lower(i: int) -> Any:
        stage = cascade.stages[i]
        many = jax.tree.map(lambda a: shape(batch, *a.shape[1:], dtype=a.dtype), conds[i])
        side = stage.low_res_size and cascade.stages[i - 1].size
        grid = padded_grid(stage.schedule, sampling.steps[i])
        arguments = (
            jax.tree.map(lambda a: shape(*a.shape, dtype=a.dtype), stage_params[i]),
            many,
            many,
            shape(batch, side, side, 3) if side else None,
            jax.eval_shape(lambda: seed_keys([0] * batch, i)),
            shape(),
            *jax.tree.map(lambda a: shape(*a.shape, dtype=a.dtype), grid),
            shape(1, cascade.size, cascade.size, 3) if sampling.from_picture and i == 0 else None,
        )
        return draw.lower(
            stage,
            *place(arguments),
            guided=sampling.guidance[i] is not None,
            sampler=sampling.sampler,
        )

    return {f"draw {s.name}": functools.partial(lower, i) for i, s in enumerate(cascade.stages)}


def generate(
    cascade: Cascade,
    stage_params: Sequence[Params],
    conds: Sequence[Cond],
    null: Sequence[Cond],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    stages: int | None = None,
    base: Float[np.ndarray, "n s s 3"] | None = None,
    source: Float[Array, "1 _ _ 3"] | None = None,
    before_stage: Callable[[str], None] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "n h w 3"]:
    """Draws one picture per seed through the cascade.

    Everything between the compiled draws happens on the host, so that neither the number of
    pictures nor that of micro-batches compiles anything.

    Args:
        cascade: the model.
        stage_params: parameters per stage.
        conds: per stage, a batch of texts as long as `seeds`.
        null: per stage, the empty text (batch of 1).
        seeds: one per picture.
        sampling: see `Sampling`.
        stages: how many stages to run (default all).
        base: pictures of the base stage in [-1, 1], where they are made otherwise (an edit): only
            the stages behind it run.
        source: (1, S, S, 3) in [-1, 1], S the cascade's size: what the base starts from where
            `sampling.start` says so.
        before_stage: told a stage's name before each of its draws.
        on_batch: told (micro-batches done, total) after each.

    Returns:
        Pictures in [-1, 1], of the size of the last stage that ran.
    """
    conds, null = jax.device_get((tuple(conds), tuple(null)))
    count = len(seeds)
    starts = range(0, count, sampling.batch)
    first = 0 if base is None else 1
    start_from = source if sampling.from_picture else None
    run = list(enumerate(cascade.stages))[first:stages]
    if base is not None and not run:
        return base
    pictures, done = [], 0
    for start in starts:
        rows = np.minimum(np.arange(start, start + sampling.batch), count - 1)
        image = None if base is None else jnp.asarray(base[rows])
        for i, stage in run:
            given = start_from if i == 0 else None
            left_out = 0 if given is None else sampling.left_out
            levels, num_steps = padded_grid(stage.schedule, sampling.steps[i], left_out)
            scale = sampling.guidance[i]
            take = functools.partial(jax.tree.map, lambda a, r=rows: a[r])
            if before_stage is not None:
                before_stage(stage.name)
            empty = repeat(null[i], sampling.batch)
            image = draw(
                stage,
                stage_params[i],
                take(conds[i]),
                empty,
                image,
                seed_keys([seeds[r] for r in rows], i),
                jnp.float32(scale if scale is not None else 1.0),
                levels,
                num_steps,
                given,
                guided=scale is not None,
                sampler=sampling.sampler,
            )
            done += 1
            if on_batch is not None:
                on_batch(done, len(starts) * len(run))
        assert image is not None  # a cascade has at least one stage
        pictures.append(np.asarray(image)[: count - start])
    return np.concatenate(pictures)
