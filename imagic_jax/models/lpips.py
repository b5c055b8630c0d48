"""The networks of LPIPS (Zhang et al. 2018, arXiv:1801.03924): three trunks and their heads.

AlexNet, VGG16 and SqueezeNet 1.1 up to their last convolution, with the names of torchvision's
`features` (`features_0`, ... are the indices of that `nn.Sequential`), and one linear head per
tapped layer under the `lpips` package's names (`lin0.model.1.weight`).
"""

from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from imagic_jax.models.activations import relu
from imagic_jax.models.conv import Conv
from imagic_jax.models.linear import Linear
from imagic_jax.models.pooling import max_pool
from imagic_jax.typing import Array, Features, Float, Image

Net = Literal["alex", "vgg", "squeeze"]
NETS: tuple[Net, ...] = ("alex", "vgg", "squeeze")
HEAD_NAMES = ("model_1",)  # linear layers that the published files keep as 1x1 convolutions

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pictures in [-1, 1]


class Convolution(NamedTuple):
    """A convolution and its ReLU; `place` is the convolution's in torchvision's `features`."""

    place: int
    features: int
    size: int = 3
    stride: int = 1
    padding: int = 1
    tapped: bool = False


class Fire(NamedTuple):
    """SqueezeNet's block: 1x1 to `squeeze` channels, then 1x1 and 3x3 to `expand` each."""

    place: int
    squeeze: int
    expand: int
    tapped: bool = False


class MaxPool(NamedTuple):
    """Max pooling of stride 2."""

    size: int
    ceil: bool = False


_ALEX = (
    Convolution(0, 64, 11, 4, 2, tapped=True),
    MaxPool(3),
    Convolution(3, 192, 5, 1, 2, tapped=True),
    MaxPool(3),
    Convolution(6, 384, tapped=True),
    Convolution(8, 256, tapped=True),
    Convolution(10, 256, tapped=True),
)
_VGG = (
    Convolution(0, 64),
    Convolution(2, 64, tapped=True),
    MaxPool(2),
    Convolution(5, 128),
    Convolution(7, 128, tapped=True),
    MaxPool(2),
    Convolution(10, 256),
    Convolution(12, 256),
    Convolution(14, 256, tapped=True),
    MaxPool(2),
    Convolution(17, 512),
    Convolution(19, 512),
    Convolution(21, 512, tapped=True),
    MaxPool(2),
    Convolution(24, 512),
    Convolution(26, 512),
    Convolution(28, 512, tapped=True),
)
_SQUEEZE = (
    Convolution(0, 64, 3, 2, 0, tapped=True),
    MaxPool(3, ceil=True),
    Fire(3, 16, 64),
    Fire(4, 16, 64, tapped=True),
    MaxPool(3, ceil=True),
    Fire(6, 32, 128),
    Fire(7, 32, 128, tapped=True),
    MaxPool(3, ceil=True),
    Fire(9, 48, 192, tapped=True),
    Fire(10, 48, 192, tapped=True),
    Fire(11, 64, 256, tapped=True),
    Fire(12, 64, 256, tapped=True),
)
TRUNKS = {"alex": _ALEX, "vgg": _VGG, "squeeze": _SQUEEZE}


class LPIPS(nn.Module):
    """`lpips.LPIPS(net, version="0.1", spatial=True)` before its maps are brought to one size.

    Attributes:
      net: the trunk.
      shrink: divides every width, for small networks in tests.
    """

    net: Net = "alex"
    shrink: int = 1

    @nn.compact
    def __call__(self, x: Image, y: Image) -> tuple[Float[Array, "b _ _"], ...]:
        """One map of distances per tapped layer; x and y are of one shape, in [-1, 1]."""
        both = jnp.concatenate([x, y]).astype(jnp.float32)
        both = (both - jnp.asarray(_SHIFT, jnp.float32)) / jnp.asarray(_SCALE, jnp.float32)
        maps = []
        for i, tap in enumerate(self._taps(both)):
            a, b = jnp.split(_unit_channels(tap), 2)
            maps.append(Head(name=f"lin{i}")(jnp.square(a - b)))
        return tuple(maps)

    def _taps(self, h: Features) -> list[Float[Array, "_ _ _ _"]]:
        """The activations that are compared."""
        taps = []
        for layer in TRUNKS[self.net]:
            if isinstance(layer, MaxPool):
                h = max_pool(h, layer.size, 2, ceil=layer.ceil)
                continue
            h = self._layer(layer, h)
            if layer.tapped:
                taps.append(h)
        return taps

    def _layer(self, layer: Convolution | Fire, h: Features) -> Float[Array, "b h2 w2 o"]:
        name = f"features_{layer.place}"
        if isinstance(layer, Fire):
            width, expand = layer.squeeze // self.shrink, layer.expand // self.shrink
            return FireBlock(width, expand, name=name)(h)
        width = layer.features // self.shrink
        return relu(Conv(width, layer.size, layer.stride, layer.padding, name=name)(h))


class FireBlock(nn.Module):
    """torchvision's `Fire`."""

    squeeze: int
    expand: int

    @nn.compact
    def __call__(self, h: Features) -> Float[Array, "b h w o"]:
        """(B, H, W, C) to (B, H, W, 2 expand)."""
        h = relu(Conv(self.squeeze, 1, 1, 0, name="squeeze")(h))
        narrow = relu(Conv(self.expand, 1, 1, 0, name="expand1x1")(h))
        wide = relu(Conv(self.expand, 3, 1, 1, name="expand3x3")(h))
        return jnp.concatenate([narrow, wide], axis=-1)


class Head(nn.Module):
    """The weights of one tapped layer's channels (the package drops out before them: index 1)."""

    @nn.compact
    def __call__(self, squares: Features) -> Float[Array, "b h w"]:
        """The weighted sum over channels."""
        return Linear(1, use_bias=False, name="model_1")(squares)[..., 0]


def _unit_channels(h: Features) -> Features:
    """Each pixel's channels scaled to length 1; where all are zero they stay so."""
    square = jnp.sum(jnp.square(h), axis=-1, keepdims=True)
    # The square root has no derivative at 0.
    length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return h / (length + 1e-10)
