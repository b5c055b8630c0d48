"""--mesh is read strictly, and arrays are divided along their largest dimension."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from imagic_jax.errors import UserError
from imagic_jax.runtime.mesh import (
    divide_draws,
    lanes_of,
    make_meshes,
    one_device,
    parse_mesh,
    weight_spec,
)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("image:4", {"image": 4, "sample": 1, "fsdp": 1}),
        ("image:2,sample:2", {"image": 2, "sample": 2, "fsdp": 1}),
        (" fsdp:4 ", {"image": 1, "sample": 1, "fsdp": 4}),
    ],
)
def test_axes_are_read(text, sizes):
    assert parse_mesh(text) == sizes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("picture:4", "names no axis of image, sample, fsdp"),
        ("image", "names no axis"),
        ("", "names no axis"),
        ("image:2,", "names no axis"),
        ("image:two", "whole number above 0"),
        ("image:0", "whole number above 0"),
        ("image:-1", "whole number above 0"),
        ("image:1.5", "whole number above 0"),
        ("image:²", "whole number above 0"),
        ("image:2,image:2", "image twice"),
    ],
)
def test_what_is_no_mesh_is_refused(text, words):
    with pytest.raises(UserError, match=words):
        parse_mesh(text)


def test_more_devices_than_there_are_is_refused():
    there = jax.local_device_count()
    with pytest.raises(UserError, match=rf"asks for {there + 1} devices .* there are {there}"):
        make_meshes(parse_mesh(f"image:{there + 1}"))
    with pytest.raises(UserError, match="for 2 stages side by side"):
        make_meshes(parse_mesh(f"image:{there}"), 2)


def test_meshes_side_by_side_share_no_device():
    first, second = make_meshes(parse_mesh("image:2,fsdp:2"), 2)
    assert not set(first.devices.flat) & set(second.devices.flat)
    assert first.devices.shape == second.devices.shape == (2, 1, 2)
    assert lanes_of(first) == 2
    assert one_device().size == 1


@pytest.mark.parametrize(
    ("shape", "parts", "spec"),
    [
        ((3, 3, 64, 128), 4, P(None, None, None, "fsdp")),
        ((128, 64), 4, P("fsdp")),
        ((6, 9), 4, P()),
        ((6, 8), 4, P(None, "fsdp")),
        ((), 4, P()),
        ((128,), 1, P()),
        ((2,), 4, P()),
    ],
)
def test_weights_are_divided_along_their_largest_dimension(shape, parts, spec):
    assert weight_spec(shape, parts) == spec


def test_draws_are_divided_where_devices_share_a_picture():
    (mesh,) = make_meshes(parse_mesh("sample:2,fsdp:2"))
    spread = jax.jit(divide_draws)
    with jax.set_mesh(mesh):
        assert spread(np.ones((8, 3), np.float32)).sharding.spec == P(("sample", "fsdp"))
        assert spread(np.ones((2, 3), np.float32)).sharding.spec == P(("sample",))
        assert spread(np.ones((3, 3), np.float32)).sharding.is_fully_replicated
    assert spread(np.ones((8, 3), np.float32)).sharding.is_fully_replicated
