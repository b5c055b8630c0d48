"""The trainer: Adam with warm-up and a closing decay, EMA, one compiled chunk of steps.

The state is `{"params", "ema", "adam"}`; step i draws everything from `fold_in(key, i)`, so a run
that was stopped and resumed ends with the same bits as one that never was.
"""

import dataclasses
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, use_abstract_mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray

from imagic_jax.training.data import CaptionTable
from imagic_jax.training.tasks import Task
from imagic_jax.typing import Params

TrainState = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Optimisation settings.

    Attributes:
        steps: length of the run; the rate falls to zero over its last `decay` share.
        learning_rate: peak rate of Adam.
        warmup: steps of linear warm-up.
        decay: share of the run that the closing decay takes.
        clip: bound on the global gradient norm.
        ema: decay of the averaged weights, approached as (1 + i) / (10 + i).
    """

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 300
    decay: float = 0.3
    clip: float = 1.0
    ema: float = 0.999

    def rate(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """The learning rate at a step."""
        step = step.astype(jnp.float32)
        rise = jnp.minimum(1.0, (step + 1.0) / self.warmup)
        start = (1.0 - self.decay) * self.steps
        fall = jnp.clip((self.steps - step) / max(self.decay * self.steps, 1.0), 0.0, 1.0)
        return self.learning_rate * rise * jnp.where(step < start, 1.0, fall)


class TrainData(NamedTuple):
    """What a training step reads."""

    table: CaptionTable
    frozen: Any
    key: PRNGKeyArray


def _optimizer(recipe: Recipe) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(recipe.clip), optax.scale_by_adam(b1=0.9, b2=0.99))


def init_state(task: Task, recipe: Recipe, key: PRNGKeyArray, table: CaptionTable) -> TrainState:
    """Step 0: fresh parameters, their average, and the optimizer's zeros."""
    params = task.init(key, table)
    return {
        "params": params,
        "ema": jax.tree.map(jnp.copy, params),
        "adam": _optimizer(recipe).init(params),
    }


@dataclasses.dataclass(frozen=True)
class TrainStep:
    """One optimisation step, for `runtime.loop.run`.

    Attributes:
        devices: the mesh whose `sample` axis divides each batch (`runtime.mesh`); gradients are
            averaged over it, so that a step is the one of a single device but for rounding. None
            for one device.
    """

    task: Task
    recipe: Recipe
    devices: AbstractMesh | None = None

    def __call__(
        self, state: TrainState, data: TrainData, index: Int[Array, ""]
    ) -> tuple[TrainState, Float[Array, ""]]:
        key = jax.random.fold_in(data.key, index)

        def loss_of(params: Params) -> Float[Array, ""]:
            with use_abstract_mesh(self.devices) if self.devices else nullcontext():
                return self.task.loss(params, data.frozen, data.table, key)

        loss, grads = jax.value_and_grad(loss_of)(state["params"])
        updates, adam = _optimizer(self.recipe).update(grads, state["adam"])
        rate = self.recipe.rate(index)
        params = jax.tree.map(lambda p, u: p - rate * u, state["params"], updates)
        i = index.astype(jnp.float32)
        keep = jnp.minimum(self.recipe.ema, (1.0 + i) / (10.0 + i))
        ema = jax.tree.map(lambda e, p: keep * e + (1.0 - keep) * p, state["ema"], params)
        return {"params": params, "ema": ema, "adam": adam}, loss
