"""Imagic on the built-in cascade with the paper's schedule for Imagen: 100 / 1500 / 1500 steps."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = "flatland-imagen"
    config.example = ConfigDict({"image": "bird.png", "text": "a bird spreading its wings"})
    config.seed = 0
    config.embedding = ConfigDict({"steps": 100, "learning_rate": 0.01, "batch": 1})
    config.tuning = ConfigDict(
        {
            "base": {"steps": 1500, "learning_rate": 1e-4, "batch": 1, "train": ""},
            "sr1": {"steps": 1500, "learning_rate": 1e-4, "batch": 1, "train": ""},
        }
    )
    config.sampling = ConfigDict(
        {
            "base": {"steps": 50, "guidance": 3.0},
            "sr1": {"steps": 20, "guidance": 1.0},
            "sr2": {"steps": 10, "guidance": 1.0},
            "batch": 6,
            "sampler": "ddim",
        }
    )
    config.etas = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    config.seeds = (0,)
    return config
