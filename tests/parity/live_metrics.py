"""The PyTorch side of the metrics' parity: the packages' own code with drawn weights.

None of the packages needs torchvision for what is used of them, but most import it. Where it is
missing, `lpips` gets one that holds the three trunks as torchvision builds them, and of
torch-fidelity only the network's module is imported.
"""

import contextlib
import importlib.util
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
from live import torch, transformers
from metric_networks import drawn

nn = torch.nn


def conv(index, inputs, outputs, size=3, stride=1, padding=1):
    """A convolution and its ReLU under their indices."""
    return [
        (str(index), nn.Conv2d(inputs, outputs, size, stride, padding)),
        (str(index + 1), relu()),
    ]


def nchw(x):
    """Pictures as a PyTorch tensor."""
    return torch.from_numpy(np.ascontiguousarray(np.asarray(x).transpose(0, 3, 1, 2)))


def bytes_of(x):
    """The same, of 8 bits."""
    return (nchw(x) * 255).round().to(torch.uint8)


def relu():
    return nn.ReLU(inplace=False)


def alexnet(shrink=1):
    a, b, c, d = (n // shrink for n in (64, 192, 384, 256))
    return OrderedDict(
        [
            *conv(0, 3, a, 11, 4, 2),
            ("2", nn.MaxPool2d(3, 2)),
            *conv(3, a, b, 5, 1, 2),
            ("5", nn.MaxPool2d(3, 2)),
            *conv(6, b, c),
            *conv(8, c, d),
            *conv(10, d, d),
            ("12", nn.MaxPool2d(3, 2)),
        ]
    )


def vgg16(shrink=1):
    layers, index, inputs = [], 0, 3
    for width in (64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3, "M"):
        if width == "M":
            layers.append((str(index), nn.MaxPool2d(2, 2)))
            index += 1
        else:
            layers += conv(index, inputs, width // shrink)
            index, inputs = index + 2, width // shrink
    return OrderedDict(layers)


class Fire(nn.Module):
    def __init__(self, inputs, squeeze, expand):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x):
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.expand1x1(x)), torch.relu(self.expand3x3(x))], 1)


def squeezenet1_1(shrink=1):
    fires = {3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128)}
    fires |= {9: (256, 48, 192), 10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256)}
    layers = conv(0, 3, 64 // shrink, 3, 2, 0)
    for index in range(2, 13):
        if index in fires:
            layers.append((str(index), Fire(*(n // shrink for n in fires[index]))))
        else:
            layers.append((str(index), nn.MaxPool2d(3, 2, ceil_mode=True)))
    return OrderedDict(layers)


TRUNKS = {"alex": alexnet, "vgg": vgg16, "squeeze": squeezenet1_1}


def fill(module, names):
    """Every tensor drawn by its published name; `names` maps the module's own to it."""
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                value.copy_(torch.from_numpy(drawn(names(key), tuple(value.shape))))
    return module.eval()


@contextlib.contextmanager
def torchvision_with(shrink=1):
    """A torchvision that holds the trunks, whether it is installed or not."""

    def made(build):
        return lambda **_: types.SimpleNamespace(features=nn.Sequential(build(shrink)))

    module, models = types.ModuleType("torchvision"), types.ModuleType("torchvision.models")
    for build in TRUNKS.values():
        setattr(models, build.__name__, made(build))
    module.models = models
    names = {"torchvision": module, "torchvision.models": models}
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(names)
    try:
        yield
    finally:
        for name, was in before.items():
            sys.modules.pop(name)
            if was is not None:
                sys.modules[name] = was


def lpips_reference(net, shrink=1, spatial=False):
    """`lpips.LPIPS` with drawn trunk and heads."""
    with torchvision_with(shrink):
        package = pytest.importorskip("lpips")
        package.pretrained_networks.tv = sys.modules["torchvision.models"]
        model = package.LPIPS(net=net, pnet_rand=True, pretrained=False, verbose=False)
    model.spatial = spatial
    for i, width in enumerate(model.chns):
        head = package.NetLinLayer(width // shrink, use_dropout=True)
        setattr(model, f"lin{i}", head)
        model.lins[i] = head

    def published(key):
        if key.startswith("net."):
            return "features." + key.split(".", 2)[2]
        return "lin" + key.removeprefix("lins.") if key.startswith("lins.") else key

    shift = {k: v.clone() for k, v in model.scaling_layer.state_dict().items()}
    fill(model, published)
    model.scaling_layer.load_state_dict(shift)
    return model.eval()


def fidelity_module(name):
    """One module of torch-fidelity; the package's own import would ask for torchvision."""
    if "torch_fidelity" not in sys.modules:
        spec = importlib.util.find_spec("torch_fidelity")
        if spec is None:
            pytest.skip("torch_fidelity is missing")
        package = types.ModuleType("torch_fidelity")
        package.__path__, package.__spec__ = list(spec.submodule_search_locations), spec
        sys.modules["torch_fidelity"] = package
    return importlib.import_module(f"torch_fidelity.{name}")


def inception_reference(size=299, shrink=1):
    """torch-fidelity's `FeatureExtractorInceptionV3` for "2048" with drawn weights."""
    source = fidelity_module("feature_extractor_inceptionv3")
    whole = source.BasicConv2d

    class Narrow(nn.Module):
        forward = whole.forward

        def __init__(self, inputs, outputs, **kwargs):
            super().__init__()
            inputs, outputs = inputs if inputs == 3 else inputs // shrink, outputs // shrink
            self.conv = nn.Conv2d(inputs, outputs, bias=False, **kwargs)
            self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    class Reference(source.FeatureExtractorInceptionV3):
        INPUT_IMAGE_SIZE = size

        def load_state_dict(self, state):
            del state  # it has none to read

    source.BasicConv2d = Narrow
    fetch, source.load_state_dict_from_url = source.load_state_dict_from_url, lambda *_, **__: {}
    try:
        model = Reference("drawn", ["2048"])
    finally:
        source.BasicConv2d, source.load_state_dict_from_url = whole, fetch
    return fill(model, lambda key: key)


def as_vit(key, state):
    """The tensor that transformers' ViT calls `key`, from a DINO state dict."""
    key = key.replace("embeddings.position_embeddings", "pos_embed")
    key = key.replace("embeddings.cls_token", "cls_token")
    key = key.replace("embeddings.patch_embeddings.projection", "patch_embed.proj")
    key = key.replace("layernorm_before", "norm1").replace("layernorm_after", "norm2")
    key = key.replace("layers.", "blocks.").replace("layernorm.", "norm.")
    key = key.replace("attention.o_proj", "attn.proj")
    for part, letter in enumerate("qkv"):
        if f"attention.{letter}_proj" in key:
            whole = state[key.replace(f"attention.{letter}_proj", "attn.qkv")]
            return np.split(whole, 3)[part]
    return state[key]


def dino_reference(config, state):
    """transformers' ViT with DINO's weights: a function pictures -> (class token, last keys)."""
    model = transformers.ViTModel(
        transformers.ViTConfig(
            hidden_size=config.embed_dim,
            num_hidden_layers=config.depth,
            num_attention_heads=config.num_heads,
            intermediate_size=config.mlp_ratio * config.embed_dim,
            image_size=config.image_size,
            patch_size=config.patch_size,
            layer_norm_eps=1e-6,
        ),
        add_pooling_layer=False,
    )
    vit = {key: torch.from_numpy(as_vit(key, state).copy()) for key in model.state_dict()}
    model.load_state_dict(vit)
    model.eval()
    seen = []
    last = model.layers[-1].attention.k_proj
    last.register_forward_hook(lambda _, __, out: seen.append(out))

    def run(pixels):
        with torch.no_grad():
            out = model(pixels).last_hidden_state[:, 0]
        return out.numpy(), seen.pop().numpy()

    return run
