"""LoRA files: names, layouts and ranks as diffusers reads them."""

import jax.numpy as jnp
import numpy as np

from imagic_jax.weights.lora import lora_tensors


def drawn(*shape):
    return jnp.asarray(np.random.default_rng([0, *shape]).normal(size=shape), jnp.float32)


SD1 = {"_class_name": "UNet2DConditionModel"}
SD2 = {**SD1, "use_linear_projection": True}


def test_linear_layers_are_transposed_and_named_by_path():
    stem = "unet/mid_block/attentions_0/transformer_blocks_0/attn1/to_out_0"
    a, b = drawn(7, 2), drawn(2, 5)
    told = lora_tensors(SD1, {f"{stem}/lora_a": a, f"{stem}/lora_b": b})
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"
    assert set(told) == {f"{name}.lora_A.weight", f"{name}.lora_B.weight"}
    np.testing.assert_array_equal(told[f"{name}.lora_A.weight"], a.T)
    np.testing.assert_array_equal(told[f"{name}.lora_B.weight"], b.T)


def test_names_that_end_in_a_number_keep_it():
    stem = "unet/time_embedding/linear_1"
    told = lora_tensors(SD1, {f"{stem}/lora_a": drawn(4, 1), f"{stem}/lora_b": drawn(1, 4)})
    assert "unet.time_embedding.linear_1.lora_A.weight" in told


def test_projections_are_convolutions_where_pytorch_keeps_them_so():
    stem = "unet/mid_block/attentions_0/proj_in"
    trained = {f"{stem}/lora_a": drawn(6, 2), f"{stem}/lora_b": drawn(2, 8)}
    name = "unet.mid_block.attentions.0.proj_in"
    shapes = {k: a.shape for k, a in lora_tensors(SD1, trained).items()}
    assert shapes == {f"{name}.lora_A.weight": (2, 6, 1, 1), f"{name}.lora_B.weight": (8, 2, 1, 1)}
    shapes = {k: a.shape for k, a in lora_tensors(SD2, trained).items()}
    assert shapes == {f"{name}.lora_A.weight": (2, 6), f"{name}.lora_B.weight": (8, 2)}


def test_all_layers_get_one_rank_and_the_same_product():
    trained = {}
    for name, rank in (("to_q", 2), ("to_k", 5)):
        trained |= {f"unet/{name}/lora_a": drawn(9, rank), f"unet/{name}/lora_b": drawn(rank, 6)}
    told = lora_tensors(SD1, trained)
    for name in ("to_q", "to_k"):
        a, b = told[f"unet.{name}.lora_A.weight"], told[f"unet.{name}.lora_B.weight"]
        assert (a.shape, b.shape) == ((5, 9), (6, 5))
        before = trained[f"unet/{name}/lora_a"] @ trained[f"unet/{name}/lora_b"]
        np.testing.assert_allclose((b @ a).T, before, atol=1e-6)
