"""What a pixel stage promises to editors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from imagic_jax.backbones import registry
from imagic_jax.backbones.codecs import Pixels
from imagic_jax.backbones.contracts import Cond, Extra, Stage
from imagic_jax.backbones.stages import UNetStage
from imagic_jax.diffusion.schedule import Schedule
from imagic_jax.errors import UserError
from imagic_jax.models import UNet2DCondition, UNetConfig
from imagic_jax.weights import WeightsError

IMAGE = jax.random.uniform(jax.random.key(0), (1, 64, 64, 3), minval=-1.0)


@pytest.fixture(scope="module")
def parts(tiny_loaded):
    states = jax.random.normal(jax.random.key(1), (1, tiny.LENGTH, tiny.WIDTH))
    return tiny_loaded.cascade.stages, tiny_loaded.params["stages"], Cond(states)


def test_stages_are_hashable_values(parts, tiny_model):
    again = registry.load_cascade(tiny_model).cascade
    for stage, other in zip(parts[0], again.stages, strict=True):
        assert isinstance(stage, Stage)
        assert stage == other
        assert hash(stage) == hash(other)


def test_prepare_and_finish_are_inverse_at_the_stages_size(parts):
    stages, params, _ = parts
    for stage, p in zip(stages, params, strict=True):
        x0 = stage.prepare(p, IMAGE)
        assert x0.shape == stage.sample_shape(1)
        np.testing.assert_allclose(stage.prepare(p, stage.finish(p, x0)), x0, atol=1e-6)
        assert stage.finish(p, x0).shape == (1, stage.size, stage.size, 3)


def test_conditioning_noises_to_the_level_asked_for(parts):
    stages, _, _ = parts
    sr = stages[1]
    assert stages[0].conditioning(None, None, jax.random.key(0)) == Extra()
    clean = sr.conditioning(IMAGE, jnp.zeros(1, jnp.int32), jax.random.key(0))
    noised = sr.conditioning(IMAGE, jnp.full(1, 900, jnp.int32), jax.random.key(0))
    assert clean.low_res.shape == sr.sample_shape(1)
    assert float(jnp.std(noised.low_res)) > float(jnp.std(clean.low_res)) + 0.3
    default = sr.conditioning(IMAGE, None, jax.random.key(0))
    assert int(default.level[0]) == sr.low_res.sample_level
    with pytest.raises(ValueError, match="needs a low-resolution picture"):
        sr.conditioning(None, None, jax.random.key(0))


def test_predictions_agree_with_each_other_and_rows_with_themselves(parts):
    """x_t = sqrt(abar) x0 + sqrt(1 - abar) eps, and a row does not see its neighbours."""
    stages, params, cond = parts
    stage, p = stages[0], params[0]
    x = jax.random.normal(jax.random.key(2), stage.sample_shape(2))
    t = jnp.array([100, 800])
    two = Cond(jnp.concatenate([cond.states, 0.5 * cond.states]))
    predict = jax.jit(lambda x, t, cond: stage.predict(p, x, t, cond, Extra()))
    both, aux = predict(x, t, two)
    assert aux == {}
    abar = stage.schedule.abar(t)[:, None, None, None]
    mixed = jnp.sqrt(abar) * both.x0 + jnp.sqrt(1 - abar) * both.eps
    np.testing.assert_allclose(mixed, x, atol=2e-5)
    second, _ = predict(x[1:], t[1:], Cond(two.states[1:]))
    np.testing.assert_allclose(second.x0, both.x0[1:], atol=2e-5)


def test_an_interceptor_sees_every_layer_of_a_network_computed_in_loops():
    config = {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": [8],
        "down_block_types": ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"],
        "layers_per_block": 1,
        "transformer_layers_per_block": 5,
        "cross_attention_dim": 8,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    unet = UNet2DCondition(UNetConfig.from_dict(config), scan=True)
    schedule = Schedule.from_config(tiny.SCHEDULER)
    stage = UNetStage("base", 4, unet, schedule, Pixels(1))
    x, cond = jnp.ones((1, 4, 4, 3)), Cond(jnp.ones((1, 5, 8)))
    shapes = jax.eval_shape(unet.init, jax.random.key(0), x, 0, cond.states)

    def predict(params, interceptor):
        return stage.predict({"unet": params}, x, jnp.int32(3), cond, Extra(), interceptor)

    def sow(call, args, kwargs, context):
        if context.method_name == "attend":
            context.module.sow("intermediates", "seen", args[0])
        return call(*args, **kwargs)

    assert " scan[" in str(jax.make_jaxpr(lambda p: predict(p, None))(shapes["params"]))
    _, aux = jax.eval_shape(lambda p: predict(p, sow), shapes["params"])
    seen = aux["intermediates"]["mid_block"]["attentions_0"]
    assert len(seen) == 5
    assert all(set(block) == {"attn1", "attn2"} for block in seen.values())
    assert {site.path[-2] for site in stage.sites() if site.role == "cross"} == set(seen)


def test_loss_depends_on_key_text_and_picture_and_is_a_mean_over_draws(parts):
    stages, params, cond = parts
    stage, p = stages[0], params[0]
    x0 = stage.prepare(p, IMAGE)

    @jax.jit
    def loss(x0, states, key):
        return stage.loss(p, x0, Cond(states), None, key, 4)

    base = loss(x0, cond.states, jax.random.key(0))
    assert base.shape == ()
    assert float(base) == float(loss(x0, cond.states, jax.random.key(0)))
    assert float(base) != float(loss(x0, cond.states, jax.random.key(1)))
    assert float(base) != float(loss(x0, -cond.states, jax.random.key(0)))  # not 2 *: norms
    assert float(base) != float(loss(0.5 * x0, cond.states, jax.random.key(0)))


def test_a_model_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="there is no model 'flatland-imagin'"):
        registry.load_cascade("flatland-imagin")
    with pytest.raises(UserError, match=r"no model_index\.json"):
        registry.load_cascade(tmp_path)


def test_the_package_has_doors_for_weights(tiny_model):
    import imagic_jax

    assert imagic_jax.load_cascade(tiny_model).cascade.name == "tiny"
    assert imagic_jax.load_part(tiny_model / "base" / "unet")[0].config.patch_size == 2
    with pytest.raises(AttributeError, match="load_everything"):
        _ = imagic_jax.load_everything


def test_a_cascade_of_another_format_is_refused(tiny_model, tmp_path):
    (tmp_path / "cascade.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="format 99"):
        registry.load_cascade(tmp_path)
    (tmp_path / "cascade.json").write_text('{"format": ')
    with pytest.raises(WeightsError, match="cannot be read as JSON"):
        registry.load_cascade(tmp_path)


def test_the_fingerprint_changes_with_any_weight(tiny_model, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    assert registry.open_model(copy).fingerprint() == registry.open_model(tiny_model).fingerprint()
    path = next(copy.rglob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert registry.open_model(copy).fingerprint() != registry.open_model(tiny_model).fingerprint()


def test_a_cascade_may_name_its_stages_by_hub_id(tiny_model, tmp_path, monkeypatch):
    import json
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    card = json.loads((copy / "cascade.json").read_text())
    row = card["stages"][1]
    row["id"] = f"someone/{row.pop('folder')}"
    (copy / "cascade.json").write_text(json.dumps(card))
    monkeypatch.setattr(registry.hub, "resolve", lambda name, parts: tiny_model / "sr1")
    assert registry.open_model(copy).fingerprint() == registry.open_model(tiny_model).fingerprint()
