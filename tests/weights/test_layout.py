"""The naming rule in both directions."""

import numpy as np
import pytest

from imagic_jax.weights.layout import Slot, flatten, slots, unflatten


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("down_blocks_1/resnets_0/conv1/kernel", "down_blocks.1.resnets.0.conv1.weight"),
        ("mid_block/attentions_0/to_out_0/bias", "mid_block.attentions.0.to_out.0.bias"),
        (
            "up_blocks_10/attentions_2/transformer_blocks_0/ff/net_2/kernel",
            "up_blocks.10.attentions.2.transformer_blocks.0.ff.net.2.weight",
        ),
        ("time_embedding/linear_1/kernel", "time_embedding.linear_1.weight"),
        ("conv_norm_out/scale", "conv_norm_out.weight"),
        ("class_embedding/embedding", "class_embedding.weight"),
        ("add_embedding/pool/positional_embedding", "add_embedding.pool.positional_embedding"),
        (
            "encoder/block_3/layer_1/DenseReluDense/wi_0/kernel",
            "encoder.block.3.layer.1.DenseReluDense.wi_0.weight",
        ),
    ],
)
def test_paths_become_dotted_keys(path, key):
    assert Slot(tuple(path.split("/")), (2, 3)).key == key


@pytest.mark.parametrize(
    ("slot", "torch_shape"),
    [
        (Slot(("proj", "kernel"), (3, 5)), (5, 3)),
        (Slot(("conv", "kernel"), (7, 6, 3, 5)), (5, 3, 7, 6)),
        (Slot(("proj_in", "kernel"), (3, 5), as_conv=True), (5, 3, 1, 1)),
        (Slot(("norm", "scale"), (4,)), (4,)),
        (Slot(("shared", "embedding"), (9, 4)), (9, 4)),
        (Slot(("pool", "positional_embedding"), (1, 4)), (1, 4)),
    ],
)
def test_arrays_change_layout_and_back(slot, torch_shape):
    array = np.arange(np.prod(slot.shape), dtype=np.float32).reshape(slot.shape)
    stored = slot.to_torch(array)
    assert stored.shape == slot.torch_shape == torch_shape
    assert stored.flags.c_contiguous
    np.testing.assert_array_equal(slot.from_torch(stored), array)


def test_linear_kernels_are_transposed_and_convolutions_oihw():
    linear = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(Slot(("proj", "kernel"), (2, 3)).to_torch(linear), linear.T)
    conv = np.arange(24.0).reshape(1, 2, 3, 4)
    stored = Slot(("conv", "kernel"), (1, 2, 3, 4)).to_torch(conv)
    assert stored[3, 2, 0, 1] == conv[0, 1, 2, 3]


def test_only_the_named_linear_layers_are_stored_as_convolutions():
    tree = {
        "proj_in": {"kernel": np.ones((2, 2)), "bias": np.ones(2)},
        "to_q": {"kernel": np.ones((2, 2))},
    }
    table = slots(tree, ("proj_in", "proj_out"))
    assert {key: slot.torch_shape for key, slot in table.items()} == {
        "proj_in.weight": (2, 2, 1, 1),
        "proj_in.bias": (2,),
        "to_q.weight": (2, 2),
    }


def test_trees_flatten_and_unflatten():
    tree = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert flatten(tree) == {("a", "b"): 1, ("a", "c", "d"): 2, ("e",): 3}
    assert unflatten(flatten(tree)) == tree
