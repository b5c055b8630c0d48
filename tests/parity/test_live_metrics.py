"""Metrics against the packages that published numbers come from, on drawn weights.

torchmetrics, lpips, torch-fidelity, scikit-image and transformers compute the other side; what none
of them holds (DINO's structure distance) is written out here as PIE-Bench's code has it.
"""

import functools
import importlib

import jax
import jax.numpy as jnp
import metric_networks as networks
import numpy as np
import pytest
from live import MARKS, torch, transformers
from live_metrics import (
    bytes_of,
    dino_reference,
    fidelity_module,
    inception_reference,
    lpips_reference,
    nchw,
)
from metric_networks import pictures
from PIL import Image as pil

from imagic_jax.metrics import clip, dino, fid, lpips, pie, psnr, resize, ssim

pytestmark = [*MARKS, pytest.mark.filterwarnings("ignore::UserWarning")]

X, Y = pictures(3, 96, 80, 3, seed=0), pictures(3, 96, 80, 3, seed=1)
REGION = np.zeros((3, 96, 80), np.float32)
REGION[:, 20:70, 11:60] = 1


def torchmetrics(name):
    fidelity_module("helpers")  # torchmetrics imports torch-fidelity whole where it is installed
    pytest.importorskip("torchmetrics")
    return importlib.import_module(f"torchmetrics.{name}")


def on(function, *arrays, **options):
    """Our function, compiled, of NumPy's arrays."""
    run = jax.jit(functools.partial(function, **options))
    return run(*(jnp.asarray(a) for a in arrays))


def agree(parity, name, ours, theirs, tolerance=2e-5):
    """The largest error, relative to the largest value, is in tolerance."""
    ours, theirs = np.asarray(ours), np.asarray(theirs, np.asarray(ours).dtype)
    assert ours.shape == theirs.shape
    scale = np.abs(theirs).max()
    assert scale > 0
    assert parity(f"metric {name}", ours / scale, theirs / scale) < tolerance


def each(function, *arrays):
    """A PyTorch function of pictures, one row at a time, as their programs run it."""
    with torch.no_grad():
        rows = zip(*(nchw(a) for a in arrays), strict=True)
        return np.asarray([float(function(*(a[None] for a in row))) for row in rows])


def test_psnr_and_mse(parity):
    image = torchmetrics("functional.image")
    theirs = functools.partial(image.peak_signal_noise_ratio, data_range=1.0)
    ours = on(psnr.psnr, X, Y, peak=1.0)
    agree(parity, "psnr (torchmetrics)", ours, each(theirs, X, Y))
    theirs = each(lambda x, y: ((x - y) ** 2).mean(), X, Y)
    agree(parity, "mse (PyTorch)", on(psnr.mse, X, Y), theirs)
    skimage = pytest.importorskip("skimage.metrics")
    theirs = [
        skimage.peak_signal_noise_ratio(x, y, data_range=1.0) for x, y in zip(X, Y, strict=True)
    ]
    agree(parity, "psnr (scikit-image)", ours, theirs)


def test_ssim(parity):
    image = torchmetrics("functional.image")
    theirs = functools.partial(image.structural_similarity_index_measure, data_range=1.0)
    ours = on(ssim.ssim, X, Y, edges="reflect")
    wide = (X.astype(np.float64), Y.astype(np.float64))
    agree(parity, "ssim reflect (torchmetrics)", ours, each(theirs, *wide))
    skimage = pytest.importorskip("skimage.metrics")
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    options |= {"channel_axis": -1, "data_range": 1.0}
    both = zip(*wide, strict=True)
    found = [skimage.structural_similarity(x, y, full=True, **options) for x, y in both]
    ours = on(ssim.ssim, X, Y)
    agree(parity, "ssim (scikit-image)", ours, [value for value, _ in found])
    # the map's edges are not among the windows that lie inside
    maps = np.stack([m[5:-5, 5:-5] for _, m in found])
    agree(parity, "ssim map (scikit-image)", on(ssim.ssim_map, X, Y), maps, 5e-5)


@pytest.mark.parametrize("net", ["alex", "vgg", "squeeze"])
def test_lpips(parity, net):
    module, params, _ = networks.lpips_network(net)
    x, y = 2 * X - 1, 2 * Y - 1
    reference = lpips_reference(net)
    ours = jax.jit(lpips.lpips, static_argnums=0)(module, params, x, y)
    agree(parity, f"lpips_{net} (lpips)", ours, each(reference, x, y))
    reference.spatial = True
    with torch.no_grad():
        theirs = reference(nchw(x), nchw(y))[:, 0].numpy()
    ours = jax.jit(lpips.lpips_map, static_argnums=0)(module, params, x, y)
    agree(parity, f"lpips_{net} map (lpips)", ours, theirs)
    ours = jax.jit(lpips.masked_lpips, static_argnums=0)(module, params, x, y, REGION)
    inside = (theirs * REGION).sum((1, 2)) / REGION.sum((1, 2))
    agree(parity, f"lpips_{net} masked", ours, inside)


def test_lpips_with_the_published_heads(parity, tmp_path):
    """The file that the message's command writes, beside a drawn trunk."""
    from pathlib import Path

    from safetensors.numpy import save_file
    from safetensors.torch import save_file as save_tensors

    from imagic_jax.metrics.catalog import open_metrics
    from imagic_jax.metrics.contract import Pairs

    reference = lpips_reference("alex")
    package = pytest.importorskip("lpips")
    heads = torch.load(
        Path(package.__file__).parent / "weights" / "v0.1" / "alex.pth",
        map_location="cpu",
        weights_only=True,
    )
    reference.load_state_dict(heads, strict=False)
    save_tensors({k: v.contiguous() for k, v in heads.items()}, tmp_path / "lpips_alex.safetensors")
    state = networks.lpips_network("alex")[2]
    trunk = {k: v for k, v in state.items() if k.startswith("features.")}
    save_file(trunk, tmp_path / "alexnet-owt-7be5be79.safetensors")
    ours = open_metrics(["lpips_alex"], tmp_path).score(Pairs(X, Y)).values["lpips_alex"]
    theirs = each(functools.partial(reference, normalize=True), X, Y)
    agree(parity, "lpips_alex, published heads (lpips)", ours.astype(np.float32), theirs)


def test_resizes(parity):
    for kind, how in {
        "bicubic": {"mode": "bicubic"},
        "pil-bicubic": {"mode": "bicubic", "antialias": True},
        "bilinear": {"mode": "bilinear"},
        "bilinear-antialias": {"mode": "bilinear", "antialias": True},
    }.items():
        for size in ((53, 61), (130, 120)):
            theirs = torch.nn.functional.interpolate(nchw(X), size, align_corners=False, **how)
            ours = resize.resize(jnp.asarray(X), *size, kind)
            agree(parity, f"resize {kind} (PyTorch)", ours, theirs.numpy().transpose(0, 2, 3, 1))


def test_clip_preprocessing(parity):
    processor = transformers.CLIPImageProcessorPil()
    for shape in ((300, 411), (96, 80), (1045, 1046), (225, 224)):
        array = np.random.RandomState(0).randint(0, 256, (*shape, 3)).astype(np.uint8)
        theirs = processor(pil.fromarray(array), return_tensors="np")["pixel_values"]
        ours = jax.jit(clip.clip_pixels)(array[None].astype(np.float32) / 255)
        theirs = theirs.transpose(0, 2, 3, 1)
        agree(parity, "clip preprocessing (transformers)", ours, theirs, 1e-6)


def test_clip_embeddings_and_scores(parity, tmp_path):
    """A tiny pair: transformers' processor and model against ours, end to end."""
    from live import randomised

    from imagic_jax.metrics.networks import preprocessing
    from imagic_jax.weights import load_part

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = transformers.CLIPConfig(
        text_config=sizes | {"num_attention_heads": 4, "vocab_size": 90, "eos_token_id": 89},
        vision_config=sizes | {"num_attention_heads": 2, "image_size": 48, "patch_size": 8},
        projection_dim=20,
    )
    model = randomised(transformers.CLIPModel(config))
    model.save_pretrained(tmp_path)
    size = {"height": 48, "width": 48}
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 48}, crop_size=size)
    processor.save_pretrained(tmp_path)
    files = [pil.fromarray((255 * x).round().astype(np.uint8)) for x in X]
    ids = np.random.RandomState(0).randint(3, 88, (3, 77))
    ids[:, 30:] = 89
    with torch.no_grad():
        pixels = processor(files, return_tensors="pt")["pixel_values"]
        out = model(input_ids=torch.from_numpy(ids), pixel_values=pixels)
    module, params = load_part(tmp_path)
    seen = jax.jit(clip.clip_pixels, static_argnums=1)(X, preprocessing(tmp_path, 48))
    image = jax.jit(clip.image_embeddings, static_argnums=0)(module, params, seen)
    text = jax.jit(clip.text_embeddings, static_argnums=0)(module, params, ids.astype(np.int32))
    agree(parity, "clip image embedding (transformers)", image, out.image_embeds)
    agree(parity, "clip text embedding (transformers)", text, out.text_embeds)
    theirs = (out.image_embeds * out.text_embeds).sum(-1)
    agree(parity, "clip_cos (transformers)", clip.clip_cos(image, text), theirs)
    before, after = out.image_embeds[[0, 1]], out.image_embeds[[1, 2]]
    said, says = out.text_embeds[[0, 1]], out.text_embeds[[1, 2]]
    theirs = torch.nn.functional.cosine_similarity(after - before, says - said)
    ours = clip.clip_dir(image[:2], image[1:], text[:2], text[1:])
    agree(parity, "clip_dir (InstructPix2Pix's formula)", ours, theirs)


def test_inception(parity):
    module, params, _ = networks.inception_network()
    reference = inception_reference()
    run = jax.jit(fid.inception_features, static_argnums=0)
    ours = run(module, params, fid.inception_pixels(jnp.asarray(X), "tf1"))
    with torch.no_grad():
        theirs = reference(bytes_of(X))[0].numpy()
    agree(parity, "inception features (torch-fidelity)", ours, theirs)
    source = torchmetrics("image.fid")
    reference.use_antialias = True
    with torch.no_grad():
        theirs = source.NoTrainInceptionV3._torch_fidelity_forward(reference, bytes_of(X))[0]
    ours = run(module, params, fid.inception_pixels(jnp.asarray(X), "torchmetrics"))
    agree(parity, "inception features (torchmetrics)", ours, theirs.numpy())


def test_fid_and_kid(parity):
    random = np.random.RandomState(0)
    x, y = random.rand(80, 24), 0.2 + random.rand(80, 24) ** 2
    source = torchmetrics("image.fid")
    mx, my = fid.moments(x), fid.moments(y)
    theirs = source._compute_fid(*(torch.from_numpy(a) for a in (*mx, *my)))
    agree(parity, "fid (torchmetrics)", fid.fid(mx, my), theirs, 1e-9)
    poly = torchmetrics("image.kid").poly_mmd
    theirs = poly(torch.from_numpy(x), torch.from_numpy(y))
    agree(parity, "kid, all (torchmetrics)", fid.kid(x, y).value, theirs, 1e-9)
    rng = np.random.RandomState(0)
    drawn = [
        poly(*(torch.from_numpy(a[rng.choice(80, 30, replace=False)]) for a in (x, y)))
        for _ in range(20)
    ]
    ours = fid.kid_of_subsets(x, y, subsets=20, size=30)
    agree(parity, "kid, subsets (torchmetrics)", ours.value, np.mean(drawn), 1e-9)
    agree(parity, "kid, deviation (torchmetrics)", ours.error, np.std(drawn), 1e-9)


@pytest.mark.parametrize("pie_compat", [False, True])
def test_dino(parity, pie_compat):
    config = networks.SMALL_DINO
    module, params, state = networks.dino_network(config)
    reference = dino_reference(config, state)
    square = [a[:, :80] for a in (X, Y)]
    name = "pie_structure" if pie_compat else "dino_struct"
    pixels, theirs = [], []
    for pictures_ in square:
        ours = dino.structure_pixels(jnp.asarray(pictures_), config.image_size, pie_compat)
        pixels.append(dino.features(module, params, ours))
        theirs.append(reference(their_pixels(pictures_, config.image_size, pie_compat)))
    for ours, (cls, keys) in zip(pixels, theirs, strict=True):
        agree(parity, f"{name}: class token (transformers' ViT)", ours.cls, cls)
        agree(parity, f"{name}: keys (transformers' ViT)", ours.keys, keys)
    expected = [
        torch.nn.functional.mse_loss(similarity(a), similarity(b)).item()
        for a, b in zip(theirs[0][1], theirs[1][1], strict=True)
    ]
    ours = dino.structure_distance(pixels[0].keys, pixels[1].keys)
    agree(parity, f"{name} (PIE-Bench's formula)", ours, expected)
    a, b = (torch.from_numpy(t[0]) for t in theirs)
    ours = dino.dino_i(pixels[0].cls, pixels[1].cls)
    agree(parity, "dino_i (PyTorch)", ours, torch.nn.functional.cosine_similarity(a, b))


def their_pixels(x, size, pie_compat):
    """Values from 0 to 255 meet the constants of [0, 1]: PIE-Bench's habit."""
    pixels = torch.nn.functional.interpolate(
        nchw(x) * (255 if pie_compat else 1),
        (size, size),
        mode="bilinear",
        antialias=not pie_compat,
    )
    mean, std = (torch.tensor(a)[:, None, None] for a in (dino.MEAN, dino.STD))
    return (pixels - mean) / std


def similarity(keys):
    """`attn_cosine_sim` of PIE-Bench's evaluation."""
    keys = torch.from_numpy(keys)
    length = keys.norm(dim=1, keepdim=True)
    return (keys @ keys.T) / torch.clamp(length @ length.T, min=1e-8)


def test_pie_bench(parity):
    """Its code: the metric of torchmetrics on pictures multiplied by the mask."""
    image = torchmetrics("functional.image")
    x, y = (a * REGION[..., None] for a in (X, Y))
    theirs = functools.partial(image.peak_signal_noise_ratio, data_range=1.0)
    agree(parity, "pie_psnr (torchmetrics)", on(pie.pie_psnr, X, Y, REGION), each(theirs, x, y))
    theirs = each(lambda a, b: ((a - b) ** 2).mean(), x, y)
    agree(parity, "pie_mse (PyTorch)", on(pie.pie_mse, X, Y, REGION), theirs)
    theirs = functools.partial(image.structural_similarity_index_measure, data_range=1.0)
    ours = on(pie.pie_ssim, X, Y, REGION)
    agree(
        parity,
        "pie_ssim (torchmetrics)",
        ours,
        each(theirs, *(a.astype(np.float64) for a in (x, y))),
    )
    module, params, _ = networks.lpips_network("squeeze")
    ours = jax.jit(pie.pie_lpips, static_argnums=0)(module, params, X, Y, REGION)
    agree(parity, "pie_lpips (torchmetrics)", ours, each(squeeze_of_torchmetrics(), x, y), 1e-4)


def squeeze_of_torchmetrics():
    """torchmetrics' own copy of LPIPS with the drawn weights; it adds 1e-8 to squared lengths."""
    source = torchmetrics("functional.image.lpips")
    model = lpips_reference("squeeze")
    scale, lins = model.scaling_layer, model.lins

    def run(x, y):
        taps = [model.net(scale(2 * a - 1)) for a in (x, y)]
        total = 0
        for lin, a, b in zip(lins, *taps, strict=True):
            apart = source._normalize_tensor(a) - source._normalize_tensor(b)
            total = total + source._spatial_average(lin(apart**2))
        return total

    return run
