"""What an editor sees of a model: `Stage`, `Cascade`, `Cond`.

A stage is one diffusion model; a cascade is a list of them that hand pictures to each other. Both
are static structure only: hashable, without arrays. Parameters are always arguments:
`params = {"text": ..., "stages": (p0, p1, ...)}`. What a network predicts, whether pixels or
latents flow and how a low-resolution picture conditions it are settled inside the stage.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from imagic_jax.diffusion.prediction import Prediction
from imagic_jax.diffusion.schedule import Schedule
from imagic_jax.typing import Array, Float, Image, Int, Num, Params, PRNGKeyArray

Interceptor = Any  # a flax.linen method interceptor


class Cond(NamedTuple):
    """A text as a stage reads it. Imagic optimises `states` alone."""

    states: Float[Array, "b l d"]
    mask: Num[Array, "b l"] | None = None
    pooled: Float[Array, "b d2"] | None = None


class Prior(NamedTuple):
    """Pictures of what a model knows, with their texts: tuning keeps its answers on them."""

    x0: Float[Array, "n h w c"]  # what the base's diffusion runs on
    cond: Cond  # batch of n


class Extra(NamedTuple):
    """What conditions a super-resolution stage besides the text; all None for a base."""

    low_res: Float[Array, "b h w c"] | None = None  # up-sampled, noised, in the stage's layout
    level: Int[Array, "b"] | None = None  # how much it was noised


Role = Literal["self", "cross", "joint", "features"]


class Site(NamedTuple):
    """A place in a stage's network where an interceptor can read or change what flows.

    Attributes:
        path: of the module, as `context.module.path` says it.
        role: "self" and "cross" are attentions to pixels and to text, "joint" one softmax over
            [text; pixels]; "features" is the output of a residual block.
        side: cells per side of the grid of its queries or features.
    """

    path: tuple[str, ...]
    role: Role
    side: int


@runtime_checkable
class Stage(Protocol):
    """One diffusion model. Implementations are frozen dataclasses."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int:
        """Pixels per side of the pictures that this stage makes."""
        ...

    @property
    def schedule(self) -> Schedule: ...

    @property
    def low_res_size(self) -> int | None:
        """Pixels per side of the picture it is conditioned on; None for a base."""
        ...

    def prepare(self, params: Params, image: Image) -> Array:
        """Picture (any size, [-1, 1]) -> x0, what the diffusion runs on."""
        ...

    def finish(self, params: Params, x0: Array) -> Image:
        """x0 -> picture of this stage's size, in [-1, 1]."""
        ...

    def picture(self, params: Params, x0: Array) -> Array:
        """`finish` without the last clipping: gradients pass, values may leave [-1, 1]."""
        ...

    def mask(self, mask: Float[Array, "b s s 1"], dilation: int = 0) -> Array:
        """A mask of any size in [0, 1] as one over x_t: 1 where `mask` touches a cell, else 0.

        `dilation` widens it by so many cells on every side. Multiplies x_t (a batch of `b`).
        """
        ...

    def sample_shape(self, batch: int) -> tuple[int, ...]:
        """Shape of x_t for a batch."""
        ...

    def sites(self) -> tuple[Site, ...]:
        """Every attention and residual block of the network, in the order of their work."""
        ...

    def conditioning(
        self, low_res: Image | None, level: Int[Array, "b"] | None, key: PRNGKeyArray
    ) -> Extra:
        """The extra input for a low-resolution picture noised to `level` (default: as sampled)."""
        ...

    def predict(
        self,
        params: Params,
        x_t: Array,
        t: Array,
        cond: Cond,
        extra: Extra,
        interceptor: Interceptor | None = None,
    ) -> tuple[Prediction, Mapping[str, Any]]:
        """The network's answer at x_t, and whatever the interceptor sowed."""
        ...

    def loss(
        self,
        params: Params,
        x0: Array,
        cond: Cond,
        low_res: Image | None,
        key: PRNGKeyArray,
        batch: int,
    ) -> Float[Array, ""]:
        """The model's own training loss on one picture, over `batch` draws of (t, eps).

        `cond` is one text for all draws or one for each. `low_res` is the clean picture that a
        super-resolution stage is conditioned on; the stage noises it as it was trained, with a
        fresh level per draw.
        """
        ...

    def drift(
        self,
        params: Params,
        before: Params,
        x0: Array,
        cond: Cond,
        key: PRNGKeyArray,
        above: float | Float[Array, ""] = 0.0,
    ) -> Float[Array, ""]:
        """How far the answers have moved from those of the parameters `before`, weighted as `loss`.

        On noised pictures of a base, one (t, eps) draw for each row of `x0` and `cond`; `above`
        leaves out that share of the timesteps, those of little noise.
        """
        ...


class Cascade(NamedTuple):
    """A text encoder and its stages, small to large. Static; see the module's docstring."""

    name: str
    text: Any  # a TextEncoder
    stages: tuple[Stage, ...]
    tuned: tuple[bool, ...]  # which stages Imagic tunes

    @property
    def size(self) -> int:
        """Pixels per side of the final picture."""
        return self.stages[-1].size


@runtime_checkable
class TextEncoder(Protocol):
    """Turns texts into one `Cond` per stage."""

    def encode(self, params: Params, texts: Sequence[str]) -> tuple[Cond, ...]: ...

    def check(self, text: str) -> list[str]:
        """What this encoder cannot take of a text, in sentences for people."""
        ...


def repeat(cond: Cond, batch: int) -> Cond:
    """A single text's condition for `batch` pictures; on the host if `cond` is there."""

    def many(a):
        xp = np if isinstance(a, np.ndarray) else jnp
        return xp.broadcast_to(a, (batch, *a.shape[1:]))

    return jax.tree.map(many, cond)


def stack(*conds: Cond) -> Cond:
    """Conditions joined along the batch axis."""
    return jax.tree.map(lambda *a: jnp.concatenate(a), *conds)
