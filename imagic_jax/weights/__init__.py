"""Reading and writing model folders in the layout of diffusers and transformers."""

from imagic_jax.weights.errors import WeightsError
from imagic_jax.weights.folder import load_part, save_part

__all__ = ["WeightsError", "load_part", "save_part"]
