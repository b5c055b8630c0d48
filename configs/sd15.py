"""Stable Diffusion 1.5 with the paper's schedule for Stable Diffusion: 1000 / 1500 steps.

Embedding 2e-3, fine-tuning 5e-7, one noise draw per step (Imagic, 4 and appendix). The weights stay
float32, because steps of 5e-7 round away in 16 bits; `compute_dtype` "auto" computes in bfloat16
where there is an accelerator.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    config.architecture = "sd15"  # what --random_weights builds
    config.example = ConfigDict({"image": "bird.png", "text": "a bird spreading its wings"})
    config.seed = 0
    config.compute_dtype = "auto"
    config.param_dtype = "float32"
    config.attention = "auto"  # long ones by the chip's own kernel, or "plain"
    config.remat = False  # True: activations are computed again, for less memory
    config.scan = False  # True: SDXL's deep transformers are loops; compiles faster, more memory
    config.text_dtype = "float32"

    # A: the text embedding. `batch` is the number of noise draws per step.
    config.embedding = ConfigDict({"steps": 1000, "learning_rate": 2e-3, "batch": 1})
    # B: fine-tuning. `train` is a pattern over parameter paths; a `rank` above 0 tunes by LoRA;
    # `dropout` is the share of draws that see the empty text.
    rows = {"steps": 1500, "learning_rate": 5e-7, "batch": 1}
    rows |= {"train": "", "rank": 0, "dropout": 0.0}
    config.tuning = ConfigDict({"base": rows})
    # C: drawing.
    config.sampling = ConfigDict(
        {"base": {"steps": 50, "guidance": 7.5}, "batch": 2, "sampler": "ddim", "start": 1.0}
    )
    config.etas = (0.0, 0.4, 0.6, 0.7, 0.8, 1.0)
    config.seeds = (0,)
    return config
