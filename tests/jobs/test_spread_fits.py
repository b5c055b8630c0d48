"""Fits of the tiny cascade spread over devices agree with those of one device."""

import dataclasses
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from imagic_jax.backbones.contracts import Cond, Prior
from imagic_jax.backbones.generate import Sampling
from imagic_jax.editors.imagic import (
    EmbeddingConfig,
    Picture,
    TuningConfig,
    embedding_loop,
    tuning_loop,
)
from imagic_jax.errors import UserError
from imagic_jax.jobs import disk, lane_fitting, memory
from imagic_jax.jobs.edit import encode_texts
from imagic_jax.jobs.lane_fitting import Fitting, Saving, ToFit, run_fits
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.jobs.workshop import Place
from imagic_jax.runtime import lanes
from imagic_jax.runtime.ahead import Ahead
from imagic_jax.runtime.interrupt import Interrupted, StopFlag
from imagic_jax.runtime.lanes import Lanes
from imagic_jax.runtime.mesh import make_meshes, parse_mesh
from imagic_jax.runtime.progress import Reporter

TUNING = TuningConfig(steps=3, batch=4, learning_rate=1e-3)
MESHES = ("sample:4", "fsdp:4", "image:2,sample:2", "image:2,fsdp:2")
SETTINGS = EditSettings(
    embedding=EmbeddingConfig(steps=3, learning_rate=1e-2, batch=4),
    tuning=(TUNING, None, None),
    sampling=Sampling(steps=(2, 2, 2), guidance=(None, None, None), batch=2),
    etas=(0.0, 1.0),
    seeds=(0,),
)


def fits_of(opened, settings, mesh, folder, side_by_side=False):
    """Fits of as many pictures as the mesh has lanes."""
    place = Place.chosen(opened, mesh, side_by_side, settings)
    target, null = encode_texts(opened, ["a sitting dog", ""])
    places = [lambda _, a, m=m: lanes.share(a, m) for m in place.meshes]
    what = Fitting(
        cascade=opened.cascade,
        meshes=place.meshes,
        params=opened.load_stages(places),
        null=null,
        settings=settings,
    )
    group = [
        ToFit(
            square=np.random.default_rng(i).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32),
            target=jax.device_get(target),
            seed=i,
            checkpoints=folder / mesh.replace(":", "") / str(i),
        )
        for i in range(place.lanes)
    ]
    with Ahead({}) as ahead:
        found = run_fits(what, group, ahead, Reporter(quiet=True), StopFlag())
    return [fit for fit, _ in found]


def states_in_float64(loaded, kind, mesh_text):
    """The first lane's state after three steps of the base's loop."""
    (mesh,) = make_meshes(parse_mesh(mesh_text))
    stage = loaded.cascade.stages[0]
    stage = dataclasses.replace(stage, unet=stage.unet.clone(dtype=jnp.float64))

    def wide(tree):
        return jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), tree)

    params, rng = wide(loaded.params["stages"][0]), np.random.default_rng(0)
    cond, null = (Cond(rng.normal(size=(1, tiny.LENGTH, tiny.WIDTH))) for _ in range(2))
    squares = rng.uniform(-1, 1, (mesh.shape["image"], 1, 64, 64, 3))
    picture = Picture(
        lanes.stack([stage.prepare(params, jnp.asarray(s)) for s in squares], mesh), None
    )
    keys = lanes.stack([jax.random.key(i) for i in range(len(squares))], mesh)
    conds = lanes.stack([cond] * len(squares), mesh)
    if kind == "embed":
        loop = embedding_loop(stage, picture, conds, SETTINGS.embedding, keys)
    else:
        config = TUNING
        if kind == "tune beside a prior":
            config = dataclasses.replace(TUNING, prior_batch=4, prior_weight=1.0)
            rng = np.random.default_rng(1)  # the same beside one picture and beside two
            texts = Cond(jnp.asarray(rng.normal(size=(6, tiny.LENGTH, tiny.WIDTH))))
            params["prior"] = Prior(jnp.asarray(rng.uniform(-1, 1, (6, 8, 8, 12))), texts)
        loop = tuning_loop(stage, picture, conds, null, config, keys)
    own = {name: loop.data.pop(name) for name in ("picture", "cond", "key")}
    common = lanes.share({**loop.data, "params": params}, mesh)
    first = lanes.first_states(WideStart(loop.start), mesh, common, own)
    state, _ = lanes.run(loop.step, mesh, Lanes((0,) * len(squares), first), common, own, 3)
    return lanes.take(state.value, 0)


@dataclasses.dataclass(frozen=True)
class WideStart:
    """A loop's first state in float64."""

    start: Any

    def __call__(self, data):
        return jax.tree.map(
            lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a, self.start(data)
        )


def assert_close(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


@pytest.fixture(scope="module")
def single(tiny_loaded, tmp_path_factory):
    (fit,) = fits_of(tiny_loaded.opened, SETTINGS, "image:1", tmp_path_factory.mktemp("single"))
    return fit


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
def test_a_picture_over_several_devices_agrees_with_one(tiny_loaded, single, tmp_path, mesh):
    fit, *_ = fits_of(tiny_loaded.opened, SETTINGS, mesh, tmp_path)
    ours, theirs = (
        np.concatenate([np.ravel(a) for a in jax.tree.leaves(f)]) for f in (fit, single)
    )
    # Adam's first steps are the gradient's sign: where it is near 0, rounding decides. The next
    # test is in float64.
    off = np.abs(ours - theirs) > 2e-4 + 1e-3 * np.abs(theirs)
    assert off.mean() < 0.01
    most = max(SETTINGS.embedding.learning_rate, TUNING.learning_rate) * TUNING.steps
    assert np.abs(ours - theirs).max() < 2 * most


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["embed", "tune", "tune beside a prior"])
def test_the_loops_of_several_devices_are_those_of_one_in_float64(tiny_loaded, kind):
    with jax.enable_x64(True):
        single = states_in_float64(tiny_loaded, kind, "image:1")
        for mesh in MESHES:
            spread = states_in_float64(tiny_loaded, kind, mesh)
            assert {a.dtype.name for a in jax.tree.leaves(spread)} == {"float64", "int32"}
            assert_close(spread, single, atol=1e-9, rtol=1e-6)


@pytest.mark.slow
def test_lanes_agree_with_one_device_to_the_bit(tiny_loaded, single, tmp_path):
    fit, *_ = fits_of(tiny_loaded.opened, SETTINGS, "image:4", tmp_path)
    assert_close(fit, single, atol=0, rtol=0)


@pytest.mark.slow
def test_base_and_super_resolution_side_by_side_are_those_one_after_the_other(
    tiny_loaded, tmp_path
):
    settings = dataclasses.replace(SETTINGS, tuning=(TUNING, TUNING, None))
    (one,) = fits_of(tiny_loaded.opened, settings, "image:1", tmp_path / "one")
    (two,) = fits_of(tiny_loaded.opened, settings, "image:1", tmp_path / "two", side_by_side=True)
    assert one.stages[1].delta is not None
    assert_close(two, one, atol=0, rtol=0)


def test_side_by_side_means_devices_of_its_own_for_every_tuned_stage(tiny_loaded):
    settings = dataclasses.replace(SETTINGS, tuning=(TUNING, TUNING, None))
    place = Place.chosen(tiny_loaded.opened, "image:2", True, settings)
    base, sr1, sr2 = (set(m.devices.flat) for m in place.meshes)
    assert not base & sr1
    assert sr2 == base
    with pytest.raises(UserError, match="asks for 16 devices"):
        Place.chosen(tiny_loaded.opened, "image:8", True, settings)


def test_draws_that_cannot_be_divided_are_refused(tiny_loaded):
    with pytest.raises(UserError, match=r"config\.embedding.batch is 4: make it a multiple of 3"):
        Place.chosen(tiny_loaded.opened, "sample:3", False, SETTINGS)


def test_what_fails_on_one_side_stops_the_other_and_is_what_is_told():
    stop = lane_fitting._Stop(StopFlag())
    waiting = threading.Event()

    def fails():
        waiting.wait(10)
        raise ValueError("the reason")

    def waits():
        waiting.set()
        while not stop:
            pass
        raise Interrupted("stopped")

    with pytest.raises(ValueError, match="the reason"):
        lane_fitting._side_by_side([waits, fails], stop)


def test_a_disk_too_small_is_said_before_anything_is_done(tiny_loaded, tmp_path, monkeypatch):
    opened, saving = tiny_loaded.opened, Saving()
    need = disk.estimate(opened, SETTINGS, saving, pictures=10, at_a_time=4)
    state = sum(a.size * 4 for a in jax.tree.leaves(opened.stage_shapes()[0]))
    assert need.fits == 10 * state
    assert 4 * 3 * 3 * state <= need.checkpoints <= 4 * 3 * 3 * state + 1000

    def usage(path):
        return type("Usage", (), {"free": free})

    monkeypatch.setattr(disk.shutil, "disk_usage", usage)
    free = need.total
    disk.check(tmp_path / "new", opened, SETTINGS, 10, 4, saving)
    free = need.total - 1
    with pytest.raises(UserError, match="are free there"):
        disk.check(tmp_path / "new", opened, SETTINGS, 10, 4, saving)


def test_memory_counts_what_a_mesh_divides_and_repeats(tiny_loaded, monkeypatch):
    opened = tiny_loaded.opened
    need = memory.estimate(opened, SETTINGS)

    def check(mesh, there):
        monkeypatch.setattr(memory, "available", lambda: there)
        memory.check(opened, SETTINGS, Place.chosen(opened, mesh, False).meshes)

    check("image:1", need.model + need.tuning)
    with pytest.raises(UserError, match="GiB are free"):
        check("image:2", need.model + need.tuning)  # simulated devices share the memory
    check("fsdp:2", need.model + need.tuning)
