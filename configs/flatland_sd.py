"""Imagic on the built-in latent model, in well under a minute on a laptop's CPU.

The same shape of schedule as `flatland_imagen`: several noise draws per step instead of one, so
that far fewer steps do, and the residual blocks alone are tuned.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = "flatland-sd"
    config.example = ConfigDict({"image": "bird.png", "text": "a bird spreading its wings"})
    config.seed = 0

    # A: the text embedding. `batch` is the number of noise draws per step.
    config.embedding = ConfigDict({"steps": 80, "learning_rate": 0.01, "batch": 4})
    # B: fine-tuning. `train` is a pattern over parameter paths; a `rank` above 0 tunes by LoRA;
    # `dropout` is the share of draws that see the empty text.
    base = {"steps": 150, "learning_rate": 2e-4, "batch": 4}
    base |= {"train": "resnets", "rank": 0, "dropout": 0.0}
    config.tuning = ConfigDict({"base": base})
    # C: drawing. Guidance 1 is none (and costs half).
    config.sampling = ConfigDict(
        {"base": {"steps": 20, "guidance": 4.0}, "batch": 6, "sampler": "ddim", "start": 1.0}
    )
    config.etas = (0.0, 1.0, 1.5, 2.0, 2.5, 3.0)
    config.seeds = (0,)
    return config
