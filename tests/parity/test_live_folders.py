"""Folders as diffusers and transformers write them, and as they read ours: no bit is lost."""

import json

import jax
import numpy as np
import pytest
from live import MARKS, torch
from live_models import BUILDERS, build

from imagic_jax.weights import load_part, save_part

pytestmark = list(MARKS)
ONE_OF_EACH = ("sd1 four levels", "if_ii", "vae f8", "clip quick_gelu", "clip projection")
ONE_OF_EACH += ("t5 buckets",)


def assert_equal_bits(params, others):
    """Two parameter trees of the same names and bits."""
    assert jax.tree.structure(params) == jax.tree.structure(others)
    jax.tree.map(np.testing.assert_array_equal, params, others)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_shards_are_read_like_one_file(tmp_path, name):
    model = build(name)
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    assert len(list((tmp_path / "shards").glob("*-of-*.safetensors"))) > 1
    whole, shards = (load_part(tmp_path / which)[1] for which in ("whole", "shards"))
    assert_equal_bits(whole, shards)


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_fp16_variants_are_read_as_the_numbers_that_they_hold(tmp_path, name, sharded):
    model = build(name)
    model.save_pretrained(tmp_path / "full")
    size = {"max_shard_size": "20KB"} if sharded else {}
    model.half().save_pretrained(tmp_path / "half", variant="fp16", **size)
    assert all("fp16" in path.name for path in (tmp_path / "half").glob("*.safetensors*"))
    full, half = (load_part(tmp_path / which)[1] for which in ("full", "half"))
    rounded = jax.tree.map(lambda a: a.astype(np.float16).astype(np.float32), full)
    assert_equal_bits(half, rounded)


@pytest.mark.parametrize("name", BUILDERS)
def test_what_is_saved_goes_back_to_pytorch_with_equal_bits(tmp_path, name):
    model = build(name)
    model.save_pretrained(tmp_path / "theirs")
    _, params = load_part(tmp_path / "theirs")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    save_part(tmp_path / "ours", config, params)
    again, info = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[f"{kind}_keys"] for kind in ("missing", "unexpected", "mismatched"))
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    different = [key for key, value in before.items() if not torch.equal(value, after[key])]
    assert not different
