"""Where a UNet's attention and features can be read and changed, found by tracing it once.

Nothing is listed by hand: the network is traced on shapes alone, and every call of the small named
methods that editors intercept (`Attention.attend`, `ResnetBlock.features`) is noted.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax

from imagic_jax.backbones.contracts import Role, Site
from imagic_jax.models import UNet2DCondition
from imagic_jax.models.attention import Attention
from imagic_jax.models.resnet import ResnetBlock
from imagic_jax.weights.families import FAMILIES


@functools.cache
def find_sites(unet: UNet2DCondition, side: int) -> tuple[Site, ...]:
    """Every attention and residual block of a UNet whose x_t has `side` cells per side."""
    found: list[Site] = []

    def note(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module, method = context.module, context.method_name
        if isinstance(module, Attention) and method == "attend":
            queries, keys = args[0].shape[1], args[1].shape[1]
            role = _role(keys, kwargs["text_keys"])
            found.append(Site(module.path, role, math.isqrt(queries)))
        elif isinstance(module, ResnetBlock) and method == "features":
            found.append(Site(module.path, "features", args[0].shape[1]))
        return call(*args, **kwargs)

    inputs = FAMILIES["UNet2DConditionModel"].inputs(unet)
    channels = unet.config.in_channels
    inputs["sample"] = jax.ShapeDtypeStruct((1, side, side, channels), inputs["sample"].dtype)
    with nn.intercept_methods(note):
        jax.eval_shape(unet.init, jax.random.key(0), **inputs)
    return tuple(found)


def _role(keys: int, text_keys: int) -> Role:
    if text_keys == 0:
        return "self"
    return "cross" if text_keys == keys else "joint"
