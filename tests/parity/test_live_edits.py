"""From a folder that diffusers wrote through `imagic edit` and `imagic convert` back to diffusers.

What PyTorch opens draws the picture that ours draws, from the same noise and embeddings.
"""

import json
import re

import jax
import live_pipelines as write
import numpy as np
import pytest
from live import MARKS, diffusers
from live_drawing import PIPELINES, assert_same_picture, draw, start_noise
from ml_collections import ConfigDict
from PIL import Image as pil
from safetensors.numpy import load_file

from imagic_jax.backbones import registry
from imagic_jax.backbones.contracts import Cond
from imagic_jax.cli.main import main
from imagic_jax.editors import imagic
from imagic_jax.jobs import fits, settings

pytestmark = list(MARKS)
ETA, SEED = 0.6, 5
FLAGS = (
    "--text=A photo of a RED dog",
    "--out=o",
    f"--eta={ETA}",
    f"--seeds={SEED}",
    "--guidance=3",
    "--steps=6",
    "--config.sampling.batch=1",
    "--config.embedding.steps=3",
    "--config.embedding.learning_rate=0.05",
    "--config.tuning.base.steps=3",
    "--config.tuning.base.learning_rate=0.01",
    "--quiet",
)
CASCADE = (
    "--config.sampling.sr1.steps=4",
    "--config.sampling.sr1.guidance=2",
    "--config.tuning.sr1.steps=2",
    "--config.tuning.sr1.learning_rate=0.01",
)
LORA = ("--config.tuning.base.rank=4",)
#: Layers that PyTorch keeps as convolutions too; some are narrower than the rank.
MORE_LORA = (
    "--config.tuning.base.rank=18",
    "--config.tuning.base.train=(to_q|to_v|proj_in|proj_out|linear_1|net_2)/kernel$",
)
CASES = {
    "sd1": (),
    "sd1 lora": MORE_LORA,
    "sd2 in part": ("--config.tuning.base.train=attn2",),
    "sdxl lora": LORA,
    "if": (*CASCADE, "--config.tuning.sr1.train=resnets"),
    "if lora": (*CASCADE, *LORA, "--config.tuning.sr1.rank=2"),
}


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """Compiles in half the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def run(*arguments):
    """One command line that goes well."""
    assert main([str(a) for a in arguments]) == 0


@pytest.fixture
def edited(request, tmp_path, monkeypatch):
    """Edits with one of `CASES` in an empty folder and converts: (base folders, fit, converted)."""
    monkeypatch.chdir(tmp_path)
    kind = request.param
    if "lora" in kind:
        pytest.importorskip("peft")
    family = kind.split()[0]
    made = getattr(write, f"write_{family}")(tmp_path / "models" / family)
    folders = made if isinstance(made, list) else [made]
    y, x = np.mgrid[:48, :48]
    pil.fromarray(np.stack([x * 5, y * 5, 255 - x * 5], -1).astype(np.uint8)).save("me.png")
    model = ",".join(map(str, folders))
    run("edit", f"--model={model}", "--image=me.png", *FLAGS, *CASES[kind])
    run("convert", "--fit=o/fit", "--to=new")
    return kind, folders, fits.load_fit(tmp_path / "o" / "fit"), tmp_path / "new"


def ours(folders, fit, about):
    """(opened model, its sampling, the picture that `imagic render` draws)."""
    loaded = registry.load_cascade(",".join(map(str, folders)))
    sampling = settings.from_config(ConfigDict(about["config"]), loaded.cascade).sampling
    picture = imagic.render(loaded.cascade, loaded.params, fit, [ETA], [SEED], sampling)
    return loaded, sampling, picture[0, 0]


def opened_by_pytorch(folders, converted, lora):
    """The converted pipelines, or the base's with the LoRA in them."""
    pipes = []
    for base, name in zip(folders, ("base", "sr1"), strict=False):
        kind = PIPELINES[registry.family_of(base)]
        own = converted / name if len(folders) > 1 else converted
        pipe = kind.from_pretrained(base if lora else own)
        if lora:
            pipe.load_lora_weights(own)
            assert pipe.get_list_adapters()["unet"]
        pipes.append(pipe)
    return pipes


def told_embeddings(converted, count):
    """(conditions at ETA, null) per stage, from the converted file alone."""
    told = load_file(converted / "imagic_embeddings.safetensors")
    conds, null = [], []
    for name in ("base", "sr1")[:count]:
        states = told[f"{name}.target"]
        if name == "base":
            states = ETA * states + (1 - ETA) * told["base.optimised"]
        conds.append(Cond(states, pooled=told.get(f"{name}.target_pooled")))
        null.append(Cond(told[f"{name}.null"], pooled=told.get(f"{name}.null_pooled")))
    return conds, null


@pytest.mark.parametrize("edited", CASES, indirect=True)
def test_an_edit_goes_back_to_pytorch(edited, parity, monkeypatch):
    kind, folders, fit, converted = edited
    loaded, sampling, picture = ours(folders, fit, fits.read_about(converted.parent / "o" / "fit"))
    pipes = opened_by_pytorch(folders, converted, "lora" in kind)
    conds, null = told_embeddings(converted, len(folders))
    theirs = draw(pipes, loaded.cascade, conds, null, sampling, SEED)
    assert_same_picture(parity, f"of a fit {kind}", picture, theirs)
    untuned = opened_by_pytorch(folders, converted, "lora" in kind)
    for pipe, base in zip(untuned, folders, strict=True):
        pipe.unet = diffusers.UNet2DConditionModel.from_pretrained(base / "unet")
    before = draw(untuned, loaded.cascade, conds, null, sampling, SEED)
    assert np.abs(before - theirs).max() > 0.05  # the tuning is in it
    shown = np.asarray(pil.open(converted.parent / "o" / f"edited_eta{ETA}_seed{SEED}.png"))
    np.testing.assert_allclose(shown / 127.5 - 1, picture, atol=0.51 / 127.5)
    the_readme_draws(kind, converted, loaded.cascade.stages, theirs, monkeypatch)


def the_readme_draws(kind, converted, stages, expected, monkeypatch):
    """The program in README.md runs; where it takes our noise, it draws our picture."""
    monkeypatch.chdir(converted)
    page = (converted / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    program = program.replace('eta = ".", 0.7', f'eta = ".", {ETA}')
    generator = "generator=torch.Generator().manual_seed(0)"
    assert generator in program
    noise, _ = start_noise(stages[0], SEED, 0)
    if kind.startswith("sd"):
        program = program.replace(generator, "latents=noise")
    exec(compile(program, "README.md", "exec"), {"noise": noise})
    drawn = np.asarray(pil.open("edited.png")) / 127.5 - 1
    assert drawn.shape == expected.shape
    if kind.startswith("sd"):
        np.testing.assert_allclose(drawn, expected, atol=0.51 / 127.5 + 1e-3)


def test_a_half_precision_base_opens_without_a_variant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write.write_sd1(tmp_path / "models" / "sd")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    for part in ("vae", "text_encoder", "unet"):
        for path in (folder / part).glob("*.safetensors"):
            path.unlink()
        size = {"max_shard_size": "20KB"} if part == "text_encoder" else {}
        getattr(pipe, part).half().save_pretrained(folder / part, variant="fp16", **size)
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]  # not there
    (folder / "model_index.json").write_text(json.dumps(index))
    pil.new("RGB", (48, 48), "red").save("me.png")
    run("edit", f"--model={folder}", "--image=me.png", *FLAGS)
    run("convert", "--fit=o/fit", "--to=new", "--dtype=float16")
    assert not list((tmp_path / "new").rglob("*fp16.safetensors"))
    again = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "new")
    assert again.safety_checker is None
