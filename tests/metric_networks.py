"""Random weights for the metrics' networks that NumPy draws alike with and without PyTorch."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np

from imagic_jax.models.dino import DINO, DINOConfig
from imagic_jax.models.inception import FIDInception
from imagic_jax.models.lpips import HEAD_NAMES, LPIPS
from imagic_jax.weights.families import parameter_shapes
from imagic_jax.weights.layout import slots, unflatten

SHRINK = 16  # of the widths of the small networks
SMALL_DINO = DINOConfig(patch_size=8, embed_dim=24, depth=3, num_heads=4, image_size=32)
INCEPTION_SIZE = 75  # pixels per side, the fewest


def drawn(key, shape):
    """The tensor of a state dict's key; the size of activations is kept, heads are positive."""
    random = np.random.RandomState(zlib.crc32(key.encode()))
    values = random.randn(*shape)
    if key.startswith("lin"):
        values = np.abs(values)
    if key.endswith("running_var"):
        values = 0.5 + np.abs(values)
    elif len(shape) > 1:
        values *= np.sqrt(2.0 / np.prod(shape[1:]))
    else:
        values = 0.2 * values + (1.0 if key.endswith("weight") else 0.0)
    return values.astype(np.float32)


def pictures(*shape, seed=0):
    """Smooth random pictures in [0, 1], NHWC."""
    random = np.random.RandomState(seed)
    batch, height, width, channels = shape
    coarse = random.rand(batch, height // 8 + 2, width // 8 + 2, channels)
    fine = np.kron(coarse, np.ones((1, 8, 8, 1)))[:, :height, :width]
    return np.clip(fine + 0.1 * random.randn(*shape), 0, 1).astype(np.float32)


def built(module, inputs, conv_names=()):
    """(module, its drawn parameters, the same as a state dict)."""
    table = slots(parameter_shapes(module, inputs), conv_names)
    state = {key: drawn(key, slot.torch_shape) for key, slot in table.items()}
    leaves = {slot.path: jnp.asarray(slot.from_torch(state[k])) for k, slot in table.items()}
    return module, unflatten(leaves), state


def floats(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def lpips_network(net, shrink=1):
    x = floats(1, 64, 64, 3)
    return built(LPIPS(net, shrink), {"x": x, "y": x}, HEAD_NAMES)


def inception_network(shrink=1):
    size = INCEPTION_SIZE
    return built(FIDInception(shrink), {"x": floats(1, size, size, 3)})


def dino_network(config=SMALL_DINO):
    size = config.image_size
    return built(DINO(config), {"x": floats(1, size, size, 3)})
