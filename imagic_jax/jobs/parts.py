"""The work of one edit, part by part: how often each is done, what it costs at least, its program.

Parts are known from shapes alone, so they can be compiled for a machine that is not there.
FLOPs are counted as they are published: products and convolutions, the gradient of a layer costing
two forward passes where its weights are tuned and one where they are not.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from imagic_jax.backbones import adapters
from imagic_jax.backbones.contracts import Cond, Stage
from imagic_jax.backbones.generate import drawing_programs
from imagic_jax.backbones.registry import Opened
from imagic_jax.backbones.stages import UNetStage
from imagic_jax.editors import imagic
from imagic_jax.editors.imagic import TuningConfig
from imagic_jax.errors import UserError
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.runtime import costs
from imagic_jax.typing import Array, Image, Params
from imagic_jax.weights.modules import shape_bytes

#: What a part's name begins with; `--stages` chooses by it.
KINDS = ("text", "encode", "embed", "tune", "sample", "decode")
#: What one Adam step in float32 moves per tuned value: read the gradient, read and write the value
#: and both moments.
ADAM_BYTES = 28

Place = Callable[[Any], Any]


class Part(NamedTuple):
    """One kind of work.

    Attributes:
        name: its kind, and the stage: "tune base".
        times: how often one edit does it: steps, not calls.
        flops: of one.
        traffic: bytes that one moves at least: Adam's where something is tuned, elsewhere the
            weights, once for each pass through them.
        lower: its program; that of "sample STAGE" ends in "decode STAGE".
    """

    name: str
    times: int
    flops: float
    traffic: int
    lower: Callable[[], Any]

    @property
    def kind(self) -> str:
        return self.name.split()[0]


@functools.partial(jax.jit, static_argnums=0)
def prepare(stage: Stage, params: Params, image: Image) -> Array:
    """`stage.prepare`, compiled."""
    return stage.prepare(params, image)


@functools.partial(jax.jit, static_argnums=0)
def finish(stage: Stage, params: Params, x0: Array) -> Image:
    """`stage.finish`, compiled."""
    return stage.finish(params, x0)


def parts(
    opened: Opened, settings: EditSettings, text: str, place: Place = lambda shapes: shapes
) -> list[Part]:
    """All parts of an edit, in the order of their work. Nothing is loaded or compiled.

    Args:
        opened: the model.
        settings: of the edit.
        text: what is encoded; its words change no cost.
        place: may give each program's arguments, a tree of shapes, other shardings.
    """
    cascade, shapes = opened.cascade, opened.stage_shapes()
    texts = opened.text_shapes()

    def encode(params: Any) -> tuple[Cond, ...]:
        return cascade.text.encode(params, [text])

    conds = jax.eval_shape(encode, texts)
    found = [
        Part(
            "text",
            2,  # the target's and the empty one
            costs.flops(encode, texts),
            shape_bytes(texts),
            lambda: jax.jit(encode).lower(place(texts)),
        )
    ]
    found += _fitting(opened, shapes, conds, settings, place)
    return found + _drawing(opened, shapes, conds, settings, place)


def chosen(found: Sequence[Part], wanted: Sequence[str]) -> list[Part]:
    """The parts that `wanted` names, by kind or in full.

    Raises:
        UserError: it names none of this model's.
    """
    known = {part.name for part in found} | {part.kind for part in found}
    for name in wanted:
        if name not in known:
            raise UserError(
                f"--stages: this preset has no {name!r}; it has {', '.join(sorted(known))}"
            )
    return [part for part in found if not {part.name, part.kind}.isdisjoint(wanted)]


def forward_flops(stage: Stage, params: Params, cond: Cond) -> float:
    """FLOPs of the network of one stage on one noisy picture, whatever computes its attention."""
    if isinstance(stage, UNetStage):  # what a device's kernel does inside is not in the text
        stage = dataclasses.replace(stage, attention="plain")
    low = stage.low_res_size
    image = jax.ShapeDtypeStruct((1, low, low, 3), jnp.float32) if low else None
    x_t = jax.ShapeDtypeStruct(stage.sample_shape(1), jnp.float32)

    def predict(params: Params, x_t: Array, cond: Cond, image: Image | None) -> Array:
        extra = stage.conditioning(image, None, jax.random.key(0))
        return stage.predict(params, x_t, jnp.int32(0), cond, extra)[0].x0

    return costs.flops(predict, params, x_t, cond, image)


def tuned_share(params: Params, config: TuningConfig) -> tuple[int, float]:
    """How many values are tuned, and the share of the network whose weights have a gradient."""
    tuned = _size(jax.eval_shape(lambda p: adapters.split(p, config.spec)[0], params))
    return tuned, 0.0 if config.rank else tuned / _size(params["unet"])


def _size(tree: Any) -> int:
    return sum(a.size for a in jax.tree.leaves(tree))


def _fitting(
    opened: Opened, shapes: Any, conds: Sequence[Cond], settings: EditSettings, place: Place
) -> list[Part]:
    """Encoding the picture, stage A, stage B."""
    cascade = opened.cascade
    programs = imagic.fitting_programs(
        cascade, {"stages": shapes}, conds, settings.embedding, settings.tuning, place
    )
    found = []
    for i, (stage, config) in enumerate(zip(cascade.stages, settings.tuning, strict=True)):
        embeds, tunes = i == 0 and settings.embedding.steps, config is not None and config.steps
        if not embeds and not tunes:
            continue
        forward = forward_flops(stage, shapes[i], conds[i])
        weights = shape_bytes(shapes[i]["unet"])
        if "vae" in shapes[i]:
            found.append(_coding("encode", stage, shapes[i], cascade.size, 1, 1, place))
        if embeds:
            batch, name = settings.embedding.batch, "embed"
            cost = 2 * forward * batch, 2 * weights
            found.append(Part(name, settings.embedding.steps, *cost, programs[name]))
        if tunes:
            assert config is not None
            tuned, share = tuned_share(shapes[i], config)
            name = f"tune {stage.name}"
            cost = (2 + share) * forward * config.batch, ADAM_BYTES * tuned
            found.append(Part(name, config.steps, *cost, programs[name]))
    return found


def _drawing(
    opened: Opened, shapes: Any, conds: Sequence[Cond], settings: EditSettings, place: Place
) -> list[Part]:
    """The sampling steps of every stage, and decoding."""
    cascade, sampling = opened.cascade, settings.sampling
    programs = drawing_programs(cascade, shapes, conds, sampling, place)
    calls = -(-len(settings.etas) * len(settings.seeds) // sampling.batch)
    found = []
    for i, stage in enumerate(cascade.stages):
        guided = 1 if sampling.guidance[i] is None else 2
        cost = forward_flops(stage, shapes[i], conds[i]) * sampling.batch * guided
        weights = shape_bytes(shapes[i]["unet"])
        steps = (sampling.steps[i] - (0 if i else sampling.left_out)) * calls
        found.append(
            Part(f"sample {stage.name}", steps, cost, weights, programs[f"draw {stage.name}"])
        )
        if "vae" in shapes[i]:
            side = cascade.stages[i].size
            found.append(_coding("decode", stage, shapes[i], side, sampling.batch, calls, place))
    return found


def _coding(
    kind: str, stage: Stage, params: Any, side: int, batch: int, times: int, place: Place
) -> Part:
    """The autoencoder, one way or the other."""
    run, shape = {
        "encode": (prepare, (batch, side, side, 3)),
        "decode": (finish, stage.sample_shape(batch)),
    }[kind]
    given = jax.ShapeDtypeStruct(shape, np.float32)
    return Part(
        f"{kind} {stage.name}",
        times,
        costs.flops(functools.partial(run, stage), params, given),
        shape_bytes(params["vae"]),
        lambda: run.lower(stage, *place((params, given))),
    )
