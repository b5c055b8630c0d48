"""Copies of pipeline folders: whole, in one precision, and open without what is not there."""

import json
import os

import pytest

from imagic_jax.weights import WeightsError
from imagic_jax.weights.pipelines import copy_pipeline

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.35.1",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": [None, None],
    "requires_safety_checker": True,
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
WHOLE = [
    "feature_extractor/preprocessor_config.json",
    "safety_checker/config.json",
    "safety_checker/model.safetensors",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
]


@pytest.fixture
def write(tmp_path):
    def write(files, index=INDEX):
        folder = tmp_path / "source"
        folder.mkdir()
        if index is not None:
            (folder / "model_index.json").write_text(json.dumps(index))
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
        return folder

    return write


def listing(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_all_that_the_index_names_is_copied_and_nothing_else(write, tmp_path):
    junk = ["v1-5-pruned.safetensors", "README.md", "other/config.json", "vae/model.onnx"]
    junk += ["unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.bin"]
    source, target = write([*WHOLE, *junk]), tmp_path / "new" / "copy"
    copy_pipeline(source, target)
    assert listing(target) == sorted([*WHOLE, "model_index.json"])
    for name in listing(target):
        assert (target / name).read_bytes() == (source / name).read_bytes()


def test_parts_that_the_caller_writes_stay_in_the_index(write, tmp_path):
    copy_pipeline(write(WHOLE), tmp_path / "copy", leave_out=("unet",))
    assert not (tmp_path / "copy" / "unet").exists()
    assert json.loads((tmp_path / "copy" / "model_index.json").read_text()) == INDEX


def test_what_is_missing_or_pickled_becomes_null(write, tmp_path):
    files = [n for n in WHOLE if not n.startswith("feature_extractor")]
    files[files.index("safety_checker/model.safetensors")] = "safety_checker/pytorch_model.bin"
    copy_pipeline(write(files), tmp_path / "copy")
    index = json.loads((tmp_path / "copy" / "model_index.json").read_text())
    gone = {"feature_extractor": [None, None], "safety_checker": [None, None]}
    assert index == {**INDEX, **gone}
    assert not (tmp_path / "copy" / "safety_checker").exists()


STEM = "diffusion_pytorch_model"
SHARDS = [f"{STEM}.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([f"{STEM}.fp16.safetensors"], [f"{STEM}.safetensors"]),
        (
            [*SHARDS, f"{STEM}.safetensors.index.fp16.json"],
            [*SHARDS, f"{STEM}.safetensors.index.json"],
        ),
        (
            [*SHARDS, f"{STEM}.fp16.safetensors.index.json"],
            [*SHARDS, f"{STEM}.safetensors.index.json"],
        ),
    ],
)
def test_half_precision_needs_no_variant_any_more(write, tmp_path, before, after):
    index = {"_class_name": "X", "vae": ["diffusers", "AutoencoderKL"]}
    files = [f"vae/{n}" for n in before]
    copy_pipeline(write(["vae/config.json", *files], index), tmp_path / "copy")
    assert listing(tmp_path / "copy" / "vae") == sorted(["config.json", *after])


def test_links_are_followed(write, tmp_path):
    source = write(WHOLE)
    blob = tmp_path / "blob"
    (source / "vae" / "config.json").rename(blob)
    os.symlink(blob, source / "vae" / "config.json")
    copy_pipeline(source, tmp_path / "copy")
    copied = tmp_path / "copy" / "vae" / "config.json"
    assert not copied.is_symlink()
    assert copied.read_text() == "vae/config.json"


def test_a_folder_without_an_index_is_refused(write, tmp_path):
    with pytest.raises(WeightsError, match=r"lacks .*model_index\.json"):
        copy_pipeline(write(WHOLE, index=None), tmp_path / "copy")
