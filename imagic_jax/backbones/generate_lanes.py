"""Drawing many pictures' edits at once: `generate`, a lane per picture (see `runtime.lanes`).

Every lane draws its own micro-batches with its own tuned parameters, in step with the others; the
shapes in a lane are those of `generate`. A lane with fewer micro-batches than another takes no
steps in the last ones.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float

from imagic_jax.backbones import adapters
from imagic_jax.backbones.adapters import Trainable
from imagic_jax.backbones.contracts import Cascade, Cond, Stage, repeat
from imagic_jax.backbones.generate import Sampling, draw, seed_keys
from imagic_jax.diffusion.sampling import Sampler
from imagic_jax.diffusion.schedule import Grid, padded_grid
from imagic_jax.runtime import lanes
from imagic_jax.typing import Params


class Request(NamedTuple):
    """What one lane draws."""

    conds: Sequence[Cond]  # per stage, a batch of texts as long as `seeds`; on the host
    null: Sequence[Cond]  # per stage, the text to be guided away from, batch of 1
    seeds: Sequence[int]
    source: Float[np.ndarray, "1 s s 3"] | None = None  # in [-1, 1]; see `generate`


@functools.partial(jax.jit, static_argnames=("stage", "mesh", "guided", "sampler"))
def _draw_lanes(
    stage: Stage, mesh: Mesh, common: Any, own: Any, *, guided: bool, sampler: Sampler
) -> Any:
    """`draw` in every lane: (lanes, batch, H, W, 3)."""

    def lane(common, own):
        params, delta = common["params"], own["delta"]
        return draw(
            stage,
            params if delta is None else adapters.merge(params, delta),
            own["cond"],
            own["null"],
            own["low_res"],
            own["keys"],
            common["guidance"],
            common["levels"],
            own["num_steps"],
            own["source"],
            guided=guided,
            sampler=sampler,
        )

    return lanes.each(lane, mesh, common, own)


def generate_lanes(
    cascade: Cascade,
    meshes: Sequence[Mesh],
    stage_params: Sequence[Params],
    deltas: Sequence[Trainable | None],
    requests: Sequence[Request | None],
    sampling: Sampling,
    *,
    before_stage: Callable[[str], None] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[Float[np.ndarray, "n h w 3"] | None]:
    """Draws every lane's pictures through the cascade.

    Args:
        cascade: the model.
        meshes: where each stage works, all with as many lanes.
        stage_params: parameters per stage, placed by `lanes.share`.
        deltas: per stage what was tuned in each lane, stacked; None where nothing was.
        requests: what each lane draws; None leaves it idle.
        sampling: see `Sampling`.
        before_stage: told a stage's name before each of its draws.
        on_batch: told (draws done, total) after each.

    Returns:
        Per lane, pictures in [-1, 1] of the cascade's size, one per seed.
    """
    counts = [len(r.seeds) if r is not None else 0 for r in requests]
    batches = math.ceil(max(counts) / sampling.batch)
    drawn: list[list[np.ndarray]] = [[] for _ in requests]
    done = 0
    for start in range(0, batches * sampling.batch, sampling.batch):
        image = None
        for i, (stage, mesh) in enumerate(zip(cascade.stages, meshes, strict=True)):
            if before_stage is not None:
                before_stage(stage.name)
            own = lanes.stack(_inputs(stage, requests, i, start, sampling), mesh)
            own["delta"] = deltas[i]
            own["low_res"] = (
                None if image is None else jax.device_put(image, NamedSharding(mesh, P("image")))
            )
            common = {
                "params": stage_params[i],
                **lanes.share(_settings(stage, requests, sampling, i), mesh, divide=False),
            }
            guided = sampling.guidance[i] is not None
            image = _draw_lanes(stage, mesh, common, own, guided=guided, sampler=sampling.sampler)
            jax.block_until_ready(image)
            done += 1
            if on_batch is not None:
                on_batch(done, batches * len(cascade.stages))
        assert image is not None  # a cascade has at least one stage
        for lane, count in enumerate(counts):
            if count > start:
                drawn[lane].append(lanes.take(image, lane)[: count - start])
    return [np.concatenate(d) if d else None for d in drawn]


def _model(requests: Sequence[Request | None]) -> Request:
    """What an idle lane is shaped like."""
    return next(r for r in requests if r is not None)


def _grid(
    stage: Stage, requests: Sequence[Request | None], sampling: Sampling, i: int
) -> tuple[Grid, Any]:
    """The levels of stage `i`. All lanes start from pictures, or none does."""
    given = i == 0 and _model(requests).source is not None
    return padded_grid(stage.schedule, sampling.steps[i], sampling.left_out if given else 0)


def _settings(
    stage: Stage, requests: Sequence[Request | None], sampling: Sampling, i: int
) -> dict[str, Any]:
    """What all lanes draw stage `i` with."""
    scale = sampling.guidance[i]
    levels, _ = _grid(stage, requests, sampling, i)
    return {"guidance": jnp.float32(1.0 if scale is None else scale), "levels": levels}


def _inputs(
    stage: Stage, requests: Sequence[Request | None], i: int, start: int, sampling: Sampling
) -> list[dict[str, Any]]:
    """Every lane's own inputs to stage `i` for the micro-batch from row `start` on."""
    model = _model(requests)
    _, num_steps = _grid(stage, requests, sampling, i)
    inputs = []
    for request in requests:
        idle = request is None or len(request.seeds) <= start
        asked = request or model
        rows = np.minimum(np.arange(start, start + sampling.batch), len(asked.seeds) - 1)
        inputs.append(
            {
                "cond": jax.tree.map(lambda a, r=rows: np.asarray(a)[r], asked.conds[i]),
                "null": repeat(jax.tree.map(np.asarray, asked.null[i]), sampling.batch),
                "keys": seed_keys([asked.seeds[r] for r in rows], i),
                "num_steps": np.int32(0 if idle else num_steps),
                "source": asked.source if i == 0 else None,
            }
        )
    return inputs


def lane_drawing_programs(
    cascade: Cascade,
    meshes: Sequence[Mesh],
    stage_params: Sequence[Any],
    deltas: Sequence[Any],
    conds: Sequence[Cond],
    sampling: Sampling,
) -> dict[str, Callable[[], Any]]:
    """The compiled programs of `generate_lanes`, as thunks that lower them: "draw STAGE".

    Args:
        cascade, meshes, sampling: as in `generate_lanes`, with pictures to start from where
            `sampling.start` wants them.
        stage_params: parameters per stage, or their shapes with shardings.
        deltas: shapes of one lane's tuned parameters per stage.
        conds: one text per stage.
    """
    batch = sampling.batch
    square = np.zeros((1, cascade.size, cascade.size, 3), np.float32)
    source = square if sampling.from_picture else None

    def lower(i: int) -> Any:
        stage, mesh = cascade.stages[i], meshes[i]
        texts = [repeat(jax.tree.map(np.asarray, c), 1) for c in conds]
        request = Request(texts, conds, [0], source)
        (one,) = _inputs(stage, [request], i, 0, sampling)
        side = stage.low_res_size and cascade.stages[i - 1].size
        low = jax.ShapeDtypeStruct((batch, side, side, 3), jnp.float32) if side else None
        own = lanes.stack_shapes({**one, "low_res": low}, mesh)
        own["delta"] = deltas[i] and lanes.stack_shapes(deltas[i], mesh, divide=True)
        settings = lanes.share_shapes(_settings(stage, [request], sampling, i), mesh, divide=False)
        return _draw_lanes.lower(
            stage,
            mesh,
            {"params": stage_params[i], **settings},
            own,
            guided=sampling.guidance[i] is not None,
            sampler=sampling.sampler,
        )

    return {f"draw {s.name}": functools.partial(lower, i) for i, s in enumerate(cascade.stages)}
