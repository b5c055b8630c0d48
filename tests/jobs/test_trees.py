"""Any pytree of arrays goes to disk and back as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as pil

from imagic_jax.backbones.contracts import Cond
from imagic_jax.diffusion.inversion import Inversion
from imagic_jax.editors.contracts import Concept, Inputs
from imagic_jax.errors import UserError
from imagic_jax.jobs import fits, trees

COND = Cond(jnp.arange(12.0).reshape(1, 3, 4), mask=jnp.ones((1, 3)))
INPUTS = Inputs(
    jnp.zeros((1, 2, 2, 3)),
    (COND,),
    (COND._replace(mask=None),),
    concepts=(Concept(COND, sign=-1.0, warmup=3),),
)
TREE = {
    "inputs": INPUTS,
    "found": Inversion(jnp.ones((3, 1, 2, 2, 3)), noises=jnp.full((2, 1, 2, 2, 3), 0.5)),
    "delta": {"a/b": jnp.ones(2, jnp.bfloat16), "list": [1, True, "word", None]},
}


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert type(x) is type(y) or hasattr(x, "dtype")
        np.testing.assert_array_equal(x, y)


def test_a_tree_comes_back_from_disk_with_its_types(tmp_path):
    fits.save_fit(tmp_path / "fit", TREE, {"method": "x"}, pil.new("RGB", (2, 2)))
    read = fits.load_fit(tmp_path / "fit")
    same(read, TREE)
    assert read["delta"]["a/b"].dtype == jnp.bfloat16
    assert isinstance(read["inputs"].concepts[0].warmup, int)  # a number, not an array


@pytest.mark.parametrize(
    "name",
    ["os:system", "imagic_jax.errors:UserError", "imagic_jax.nothing:Cond", "builtins:tuple"],
)
def test_nothing_but_named_tuples_of_the_package_is_made(name):
    with pytest.raises((ValueError, ImportError)):
        trees.unpack({"type": name, "fields": {}}, {})


def test_what_is_no_array_is_not_kept():
    with pytest.raises(TypeError, match="cannot be kept"):
        trees.pack({"a": object()})


def test_a_structure_of_another_version_is_refused(tmp_path):
    fits.save_fit(tmp_path / "fit", COND, {}, pil.new("RGB", (2, 2)))
    path = tmp_path / "fit" / "fit.json"
    path.write_text(path.read_text().replace('"states"', '"state"'))
    with pytest.raises(UserError, match="fit the picture again"):
        fits.load_fit(tmp_path / "fit")
