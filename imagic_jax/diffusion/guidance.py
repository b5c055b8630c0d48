"""Classifier-free guidance (Ho & Salimans 2022)."""

import jax
from jaxtyping import Array, Float

from imagic_jax.diffusion.prediction import Prediction


def guide(
    unconditional: Prediction, conditional: Prediction, scale: Float[Array, "*b"] | float
) -> Prediction:
    """eps_u + scale (eps_c - eps_u), and the same for x0, which is linear in eps at a given x_t.

    The learned variance is the conditional one's, as in IF. scale 1 is the conditional prediction.
    """

    def mix(u, c):
        w = jax.numpy.asarray(scale, c.dtype)
        return (
            u + w.reshape(w.shape + (1,) * (c.ndim - w.ndim)) * (c - u)
            if w.ndim
            else u + w * (c - u)
        )

    return Prediction(
        mix(unconditional.x0, conditional.x0),
        mix(unconditional.eps, conditional.eps),
        conditional.variance,
    )
