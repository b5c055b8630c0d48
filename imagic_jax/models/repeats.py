"""Equal layers one behind the other: each written into the program, or one loop over all of them.

What is written out ten times is compiled ten times; a loop's body once. For it the layers'
parameters are stacked inside the program, so outside they keep their names and places, and files
and adapters know nothing. That is one more copy of them, and a loop keeps more for the gradient
than a compiler does that sees all layers: SDXL's tuning by LoRA, compiled for TPU v4 (rows sdxl-*
of benchmarks/results/aot), took 47 CPU s in place of 111, and 34 GiB of temporaries in place of 18.
So it is there on request. T5-XXL's and CLIP's layers are always written out: there a loop compiled
no faster, and T5 took 25 GiB in place of 10.
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
