"""The parts of an edit: how often, how much; and what is made of their times."""

import dataclasses

import jax
import published
import pytest

from imagic_jax.errors import UserError
from imagic_jax.jobs import aot, bench, models, parts, presets, settings
from imagic_jax.report import bench_tables
from imagic_jax.runtime import costs
from imagic_jax.runtime.compilation import counted, empty_cache
from imagic_jax.runtime.devices import Chip


@pytest.fixture(scope="module")
def tiny(tiny_model):
    """(the tiny cascade opened, settings of a short edit)."""
    config = presets.load_config(presets.find_preset("flatland_imagen"))
    config.model = str(tiny_model)
    opened, _ = models.open_preset(config)
    return opened, settings.from_config(config, opened.cascade)


def test_parts_say_how_often_and_how_much(tiny):
    opened, preset = tiny
    found = {p.name: p for p in parts.parts(opened, preset, "a red dog")}
    assert list(found) == [
        "text", "embed", "tune base", "tune sr1", "sample base", "sample sr1", "sample sr2",
    ]  # fmt: skip
    assert found["embed"].times == 80
    assert found["tune base"].times == 150
    # six amounts in one micro-batch; the first of twenty steps is left out (start)
    assert found["sample base"].times == 19
    forward = found["embed"].flops / (2 * preset.embedding.batch)
    assert found["sample base"].flops == 2 * 6 * forward  # guided
    assert found["tune sr1"].flops == 3 * 4 * found["sample sr1"].flops / 6  # not guided
    shapes = opened.stage_shapes()
    everything = sum(a.size for a in jax.tree.leaves(shapes[1]["unet"]))
    assert found["tune sr1"].traffic == 28 * everything
    assert 0 < found["tune base"].traffic < 28 * everything * 2
    two = dataclasses.replace(preset, seeds=(0, 1), etas=(0.0,) * 7)
    many = {p.name: p.times for p in parts.parts(opened, two, "a red dog")}
    assert many["sample base"] == 19 * 3  # fourteen pictures, six at a time


def test_lora_costs_no_weight_gradients(tiny):
    opened, preset = tiny
    base, sr1 = preset.tuning[:2]
    low = dataclasses.replace(base, train="", rank=2)
    full = dataclasses.replace(base, train="")

    def tune(config):
        changed = dataclasses.replace(preset, tuning=(config, sr1, None))
        return next(p for p in parts.parts(opened, changed, "a") if p.name == "tune base")

    assert tune(low).flops * 3 == pytest.approx(tune(full).flops * 2)
    assert tune(low).traffic < tune(full).traffic / 4


def test_latent_models_encode_and_decode(tmp_path):
    folder = published.write_sd(tmp_path / "sd")
    config = presets.load_config(presets.find_preset("sd15"))
    config.model = str(folder)
    opened, _ = models.open_preset(config)
    preset = settings.from_config(config, opened.cascade)
    found = parts.parts(opened, preset, "a red dog")
    assert [p.name for p in found] == [
        "text", "encode base", "embed", "tune base", "sample base", "decode base",
    ]  # fmt: skip
    assert [p.name for p in parts.chosen(found, ["decode", "tune base"])] == [
        "tune base", "decode base",
    ]  # fmt: skip
    with pytest.raises(UserError, match="no 'tune sr1'; it has"):
        parts.chosen(found, ["tune sr1"])


def test_the_cache_is_empty_and_then_full():
    def double(a):
        return a * 2 + 1

    before = jax.config.jax_compilation_cache_dir
    with empty_cache():
        for _ in range(2):
            jax.clear_caches()
            with counted() as compiled:
                jax.jit(double)(1.0)
            assert compiled.programs == 1
    assert jax.config.jax_compilation_cache_dir == before


def test_floors_and_shares_are_those_of_the_chip():
    chip = Chip(name="x", peak=1000.0, bandwidth=10.0, memory=1, source="made up")
    part = parts.Part("tune base", 7, 500.0, 40, lambda: None)
    cost = costs.Cost(600.0, 1.0, 2**30, 2**30, 2**30, 2**30, 0)
    r = bench.row(part, 3.0, 1.0, [2.0, 1.0, 4.0], cost, chip)
    assert r["compute_floor_s"] == 0.5
    assert r["traffic_floor_s"] == 4.0
    assert r["median_s"] == 2.0
    assert (r["least_s"], r["most_s"]) == (1.0, 4.0)
    assert r["flops_per_s"] == 250.0
    assert r["peak_share"] == 0.25
    assert r["memory_gib"] == 2.0
    assert bench.row(part, 3.0, 1.0, [2.0], cost, None)["peak_share"] is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0 s"), (123.4, "123 s"), (0.0123, "12.3 ms"), (4.56e-6, "4.56 us")],
)
def test_durations_in_their_unit(value, text):
    assert bench_tables.seconds(value) == text


def test_what_does_not_fit_says_how_much_it_wants():
    said = "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space"
    said += " hbm. Used 33.50G of 31.25G hbm. Exceeded hbm capacity by 2.25G."
    assert aot.used_memory(said) == int(33.5 * 2**30)
    said = "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO"
    said += " temporaries (34.25G) exceeds available HBM (30.75G)."
    assert aot.used_memory(said) == int(34.25 * 2**30)
    assert aot.used_memory("INTERNAL: something else") is None


def row(name, times, roofline, fits=True):
    floors = {"compute_floor_s": roofline / 4, "traffic_floor_s": roofline / 4}
    return {"name": name, "times": times, "roofline_s": roofline, "fits": fits, **floors}


def test_an_edit_is_the_sum_of_its_parts_and_decodes_once():
    rows = [
        row("text", 2, 1.0), row("encode base", 1, 2.0), row("embed", 10, 0.5),
        row("tune base", 100, 1.0), row("sample base", 20, 0.75), row("decode base", 2, 0.5),
    ]  # fmt: skip
    found = aot.summed(rows, 6)
    assert found["fit_s"] == found["apart_s"] == 2 + 5 + 100
    assert found["render_s"] == 20 * 0.25 + 2 * 0.5
    assert found["roofline_s"] == 2 + found["fit_s"] + found["render_s"]
    cascade = aot.summed([*rows, row("tune sr1", 10, 4.0), row("tune sr2", 10, 20.0)], 8)
    assert cascade["fit_s"] == 107 + 40 + 200
    assert cascade["apart_s"] == 200  # the slowest stage's, on a chip of its own
    assert aot.summed(rows, 7) is None
    assert aot.summed([*rows[:-1], row("decode base", 2, 0.5, fits=False)], 6) is None


def test_a_broken_or_other_file_is_refused(tmp_path):
    file = tmp_path / "x.json"
    assert aot.done_before(file, {"preset": "a"}) == {}
    file.write_text("{")
    with pytest.raises(UserError, match="no result of this program"):
        aot.done_before(file, {"preset": "a"})
    file.write_text('{"preset": "b", "rows": []}')
    with pytest.raises(UserError, match="another job"):
        aot.done_before(file, {"preset": "a"})
    file.write_text('{"preset": "a", "rows": [{"name": "embed"}]}')
    assert aot.done_before(file, {"preset": "a"}) == {"embed": {"name": "embed"}}
