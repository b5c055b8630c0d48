"""DeepFloyd IF, medium (64 -> 256 -> 1024 pixels), with the paper's schedule for Imagen.

100 steps on the embedding at 1e-3, 1500 on the base, 1500 on the 64 -> 256 stage; the last stage
(here Stable Diffusion's x4 upscaler, for DeepFloyd never published theirs) is left alone. The paper
gives no rates for fine-tuning, only that Imagen's training is continued; these are guesses.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = (
        "DeepFloyd/IF-I-M-v1.0,DeepFloyd/IF-II-M-v1.0,stabilityai/stable-diffusion-x4-upscaler"
    )
    config.architecture = "if_i_m,if_ii_m,x4"  # what --random_weights builds
    config.example = ConfigDict({"image": "bird.png", "text": "a bird spreading its wings"})
    config.seed = 0
    config.compute_dtype = "auto"
    config.param_dtype = "float32"
    config.attention = "auto"  # long ones by the chip's own kernel, or "plain"
    config.remat = False  # True: activations are computed again, for less memory
    config.text_dtype = "bfloat16"  # T5-XXL: 9.5 GB instead of 19

    config.embedding = ConfigDict({"steps": 100, "learning_rate": 1e-3, "batch": 1})
    rows = {"steps": 1500, "learning_rate": 1e-5, "batch": 1}
    rows |= {"train": "", "rank": 0, "dropout": 0.0}
    config.tuning = ConfigDict({"base": rows, "sr1": dict(rows)})
    config.sampling = ConfigDict(
        {
            "base": {"steps": 100, "guidance": 7.0},
            "sr1": {"steps": 50, "guidance": 4.0},
            "sr2": {"steps": 75, "guidance": 9.0},
            "batch": 2,
            "sampler": "ddim",
            "start": 1.0,
        }
    )
    config.etas = (0.0, 0.4, 0.6, 0.7, 0.8, 1.0)
    config.seeds = (0,)
    return config
