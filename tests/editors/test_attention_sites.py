"""Sites of a network, and reading and changing what happens there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.backbones.contracts import Cascade, Extra
from imagic_jax.backbones.registry import open_model
from imagic_jax.editors import attention, guiders, plug_and_play, prompt_to_prompt
from imagic_jax.models.softmax_attention import softmax_attention

ARCHITECTURES = "configs/architectures/"


def paths(sites):
    return ["/".join(s.path[:2]) for s in sites]


def test_sites_of_stable_diffusion():
    stage = open_model(ARCHITECTURES + "sd15", random=True).cascade.stages[0]
    self_, cross = attention.self_sites(stage), attention.cross_sites(stage)
    assert [s.side for s in self_] == [64, 64, 32, 32, 16, 16, 8, *[16] * 3, *[32] * 3, *[64] * 3]
    assert [s.side for s in cross] == [s.side for s in self_]
    assert {s.role for s in (*self_, *cross)} == {"self", "cross"}
    assert attention.layout_block(stage).path == ("up_blocks_1", "resnets_1")
    assert attention.layout_block(stage).side == 16
    assert paths(plug_and_play.injected_sites(stage)) == [
        f"up_blocks_{i}/attentions_{j}" for i in (1, 2, 3) for j in range(3) if (i, j) != (1, 0)
    ]
    place = prompt_to_prompt.place_sites(stage)
    assert paths(place) == [f"down_blocks_2/attentions_{i}" for i in (0, 1)] + [
        f"up_blocks_1/attentions_{i}" for i in range(3)
    ]
    assert len(guiders.compared_sites(stage, 0)) == 16
    assert {s.side for s in guiders.compared_sites(stage, 6)} == {8, 16}


def test_sites_of_the_tiny_cascade_are_joint(tiny_loaded):
    stage = tiny_loaded.cascade.stages[0]
    assert {s.role for s in attention.self_sites(stage)} == {"joint"}
    assert attention.self_sites(stage) == attention.cross_sites(stage)
    assert attention.layout_block(stage).path == ("up_blocks_0", "resnets_1")
    assert attention.refuses(tiny_loaded.cascade) is None


def test_a_network_without_attention_is_refused_by_name(tiny_loaded):
    import analytic

    bare = Cascade("bare", None, (analytic.GaussianStage(),), (True,))
    assert "bare has no attention" in attention.refuses(bare)
    assert "bare reads its text by no attention" in prompt_to_prompt.refuses(bare)


@pytest.mark.parametrize("text_keys", [0, 3, 9])
def test_maps_read_as_they_are_give_the_attention_itself(text_keys):
    q, k, v = (
        jax.random.normal(key, (2, n, 4, 5))
        for key, n in zip(jax.random.split(jax.random.key(0), 3), (7, 9, 9), strict=True)
    )
    maps = attention.parts(q, k, text_keys)
    heads_first = (a.swapaxes(1, 2) for a in (q, k, v))
    expected = softmax_attention(*heads_first).swapaxes(1, 2)
    np.testing.assert_allclose(attention.read(maps, v), expected, atol=1e-5)
    for part, keys in ((maps.text, text_keys), (maps.pixels, 9 - text_keys)):
        assert (part is None) == (keys == 0)
        if part is not None:
            np.testing.assert_allclose(part.sum(-1), 1, atol=1e-5)


def test_values_are_handed_out_by_path_and_change_nothing(slow_model):
    stage, params = slow_model.cascade.stages[0], slow_model.params["stages"][0]
    x = jax.random.normal(jax.random.key(0), stage.sample_shape(1))
    cond = slow_model.cascade.text.encode(slow_model.params["text"], ["a red dog"])[0]
    site = attention.self_sites(stage)[-1]

    def note(call):
        call.sow("length", jnp.float32(call.q.shape[1]))
        return call.own(call.q, call.k, call.v)

    def keep(h, module):
        module.sow("intermediates", "features", h)
        return h

    block = attention.layout_block(stage)
    noting = attention.both(
        attention.at_attention([site], note), attention.at_output(block.path, keep, "features")
    )
    run = jax.jit(lambda i: stage.predict(params, x, jnp.int32(500), cond, Extra(), i),
                  static_argnums=0)  # fmt: skip
    plain, nothing = run(None)
    p, aux = run(noting)
    np.testing.assert_allclose(p.x0, plain.x0, atol=2e-5)
    assert attention.handed_out(nothing, "length") == {}
    assert attention.handed_out(aux, "length") == {site.path: site.side**2}
    (features,) = attention.handed_out(aux, "features").values()
    assert features.shape[1] == block.side
