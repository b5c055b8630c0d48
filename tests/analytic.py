"""A stage whose best prediction is known: pictures are N(m_c, s^2) in every number.

`eps*(x, t, c) = sqrt(1 - abar) (x - sqrt(abar) m_c) / (abar s^2 + 1 - abar)`, and along its
probability-flow ODE `(x - sqrt(abar) m_c) / sqrt(abar s^2 + 1 - abar)` stays what it is. A text's
m_c is the mean of its states over tokens, so every sampler, inversion and editor has a closed form.
"""

import dataclasses

import jax
import jax.numpy as jnp

from imagic_jax.backbones.contracts import Cascade, Cond, Extra
from imagic_jax.backbones.pixels import touched
from imagic_jax.diffusion import prediction
from imagic_jax.diffusion.loss import denoising_loss, matching_loss
from imagic_jax.diffusion.schedule import Schedule

SIZE = 4


@dataclasses.dataclass(frozen=True)
class GaussianStage:
    """See the module; `bend` adds a term that is not linear in x, for round trips."""

    schedule: Schedule = Schedule(  # noqa: RUF009
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
    )
    std: float = 0.5
    bend: float = 0.0
    name: str = "base"
    size: int = SIZE
    low_res_size: int | None = None

    def prepare(self, params, image):
        return image

    def finish(self, params, x0):
        return x0

    def picture(self, params, x0):
        return x0

    def mask(self, mask, dilation=0):
        return touched(mask, self.size, dilation)

    def sites(self):
        return ()

    def sample_shape(self, batch):
        return (batch, self.size, self.size, 3)

    def conditioning(self, low_res, level, key):
        return Extra()

    def predict(self, params, x_t, t, cond, extra, interceptor=None):
        t = jnp.asarray(t)
        abar, rest = (
            prediction.column(a.astype(x_t.dtype), x_t)
            for a in (self.schedule.abar(t), self.schedule.one_minus_abar(t))
        )
        mean = cond.states.astype(x_t.dtype).mean(axis=1)[:, None, None, :]
        eps = jnp.sqrt(rest) * (x_t - jnp.sqrt(abar) * mean) / (abar * self.std**2 + rest)
        eps = eps + self.bend * jnp.tanh(3.0 * jnp.roll(x_t, 1, axis=1))
        return prediction.from_output("epsilon", eps, x_t, abar, rest), {}

    def loss(self, params, x0, cond, low_res, key, batch):
        def many(a):
            return jnp.broadcast_to(a, (batch, *a.shape[1:]))

        def network(x_t, t):
            return self.predict(params, x_t, t, jax.tree.map(many, cond), Extra())[0].eps

        return denoising_loss(network, self.schedule, many(x0), key)

    def drift(self, params, before, x0, cond, key, above=0.0):
        def answers(p):
            return lambda x_t, t: self.predict(p, x_t, t, cond, Extra())[0].eps

        return matching_loss(answers(params), answers(before), self.schedule, x0, key, above)


def cond(mean: float, tokens: int = 2) -> Cond:
    """The text of pictures around `mean`."""
    return Cond(jnp.full((1, tokens, 3), mean, jnp.float32))


def cascade(**changes) -> Cascade:
    """A cascade of one such stage."""
    return Cascade("gaussian", None, (GaussianStage(**changes),), (True,))


PARAMS = {"text": {}, "stages": ({},)}
