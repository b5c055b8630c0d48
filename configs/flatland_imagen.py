"""Imagic on the built-in cascade, in a minute or a few on a laptop's CPU.

The schedule was chosen on a handful of validation pictures; what it gives on sixty-four is in
benchmarks/results/flatland_imagen. Against the paper's: several noise draws per step instead
of one, so that far fewer steps do; a higher rate for the embedding, whose entries are of order one
here. Of the base, the residual blocks alone are tuned, which leaves the attention to the text as it
was, and beside the picture it is held to what it knew; so edits still show where the picture has
been learnt. Drawing starts from the noised picture, which then decides light, place and layout.

The embedding moves little from the target's, so edits appear at about eta = 1 and beyond. A higher
rate, with some `dropout`, is the knob for earlier and stronger ones, at the picture's cost.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = "flatland-imagen"
    config.example = ConfigDict({"image": "bird.png", "text": "a bird spreading its wings"})
    config.seed = 0

    # A: the text embedding. `batch` is the number of noise draws per step.
    config.embedding = ConfigDict({"steps": 80, "learning_rate": 0.01, "batch": 4})
    # B: fine-tuning, per stage of the cascade. `train` is a pattern over parameter paths; a `rank`
    # above 0 tunes by LoRA; `dropout` is the share of draws that see the empty text; of
    # `prior_batch` draws per step the answers on what the model knows are kept (0: none).
    base = {"steps": 150, "learning_rate": 2e-4, "batch": 4}
    base |= {"train": "resnets", "rank": 0, "dropout": 0.0}
    base |= {"prior_batch": 2, "prior_weight": 0.15, "prior_from": 0.0}
    sr1 = {"steps": 80, "learning_rate": 2e-4, "batch": 4}
    sr1 |= {"train": "", "rank": 0, "dropout": 0.0}
    config.tuning = ConfigDict({"base": base, "sr1": sr1})
    # C: drawing. Guidance 1 is none (and costs half). Below 1, `start` is the share of the base's
    # steps that are done, from the noised picture (1: all, from noise alone).
    config.sampling = ConfigDict(
        {
            "base": {"steps": 20, "guidance": 5.0},
            "sr1": {"steps": 10, "guidance": 1.0},
            "sr2": {"steps": 6, "guidance": 1.0},
            "batch": 6,
            "sampler": "ddim",
            "start": 0.95,
        }
    )
    config.etas = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
    config.seeds = (0,)
    return config
