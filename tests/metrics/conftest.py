"""A folder of metric weights as a user makes it: drawn numbers under the published names."""

import json
from pathlib import Path

import metric_networks as networks
import numpy as np
import pytest
from safetensors.numpy import save_file

from imagic_jax.weights import save_part
from imagic_jax.weights.families import family_of, parameter_shapes
from imagic_jax.weights.tokenizer import save_word_level

PARITY = Path(__file__).parents[1] / "fixtures" / "parity"
TINY_CLIP = "tiny-clip"


def write_lpips(folder, net, trunk):
    """The two files of one LPIPS network, torchvision's with its classifier."""
    state = networks.lpips_network(net)[2]
    heads = {k: v for k, v in state.items() if k.startswith("lin")}
    features = {k: v for k, v in state.items() if k not in heads}
    classifier = {"classifier.1.weight": np.zeros((2, 2), np.float32)}
    save_file(features | classifier, folder / f"{trunk}.safetensors")
    save_file(heads, folder / f"lpips_{net}.safetensors")


def write_clip(folder):
    """A tiny CLIP pair that knows a few words."""
    config = json.loads((PARITY / "clip_pair.json").read_text())
    config["text_config"]["eos_token_id"] = 1
    family = family_of(config)
    module = family.build(config, np.float32)
    shapes = parameter_shapes(module, family.inputs(module))
    random = np.random.RandomState(0)

    def fill(tree):
        if hasattr(tree, "items"):
            return {name: fill(value) for name, value in tree.items()}
        return np.asarray(0.3 * random.randn(*tree.shape), np.float32)

    save_part(folder, config, fill(shapes))
    save_word_level(folder, ["a", "photo", "depicts", "red", "blue", "dog"], 10)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Weights of lpips_alex and of a tiny CLIP pair; nothing else."""
    folder = tmp_path_factory.mktemp("metric-weights")
    write_lpips(folder, "alex", "alexnet-owt-7be5be79")
    write_clip(folder / TINY_CLIP)
    return folder
