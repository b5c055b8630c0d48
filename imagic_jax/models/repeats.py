"""Equal layers one behind the other: each written into the program, or one loop over all of them.

What is written out thirty times is compiled thirty times. A loop's body is compiled once. For it
the layers' parameters are stacked inside the program, at the cost of one more copy of them in
memory; outside they keep their names and places, so files, adapters and gradients know nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagic_jax.typing import Array, Float

#: Fewer layers than these are written out whatever is asked for: a loop would not pay.
LEAST = 4


def in_turn(
    layers: Sequence[nn.Module],
    h: Float[Array, "*b"],
    call: Callable[[Any, Array], Array],
    scan: bool,
) -> Float[Array, "*b"]:
    """Leads h through all layers; to be called in the compact method that made them.

    In a loop, interceptors (`flax.linen.intercept_methods`) see one layer in place of all, and its
    path is empty. `backbones.UNetStage.predict` therefore writes all layers out where it is given
    one.

    Args:
      layers: modules of one kind, shape and dtype, each with a name of its own.
      h: what the first layer is given.
      call: (layer, h) -> h of the same shape and dtype.
      scan: make it a loop; parameters are always initialised layer by layer.
    """
    if not scan or len(layers) < LEAST or layers[0].is_initializing():
        for layer in layers:
            h = call(layer, h)
        return h
    first = layers[0].clone(parent=None, name=None)

    def body(h: Array, params: Any) -> tuple[Array, None]:
        return call(first.bind({"params": params}), h), None

    stacked = jax.tree.map(lambda *a: jnp.stack(a), *(x.variables["params"] for x in layers))
    return jax.lax.scan(body, h, stacked)[0]
