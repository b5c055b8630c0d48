"""The programs in READMEs of converted fits, where no edit is needed to try them."""

import re
from pathlib import Path

import jax.numpy as jnp
import live_pipelines as write
import numpy as np
import pytest
from live import MARKS, torch
from live_drawing import assert_same_picture, start_noise, to_numpy
from PIL import Image as pil
from safetensors.numpy import save_file

from imagic_jax.backbones import adapters, registry
from imagic_jax.backbones.adapters import TrainSpec
from imagic_jax.backbones.contracts import Cond
from imagic_jax.backbones.generate import Sampling, generate
from imagic_jax.editors.imagic import Fit, StageFit, interpolate
from imagic_jax.jobs import convert, fits
from imagic_jax.report.snippets import StageNote, code

pytestmark = list(MARKS)
ETA, SEED = 0.6, 4


def drawn(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def random_fit(opened, spec):
    """A fit whose base was tuned."""
    start, _ = adapters.split(opened.load_stages()[0], spec)
    delta = {p: a + 0.1 * drawn(i, *a.shape) for i, (p, a) in enumerate(start.items())}
    conds = [Cond(drawn(k, 1, 12, 32)) for k in range(3)]
    stages = [StageFit(conds[0], conds[1], delta), *[StageFit(conds[0], None, None)] * 2]
    return Fit(tuple(stages), (conds[2],) * 3)


@pytest.mark.parametrize("rank", [0, 4])
def test_the_readme_draws_the_base(tmp_path, tiny_model, parity, monkeypatch, rank):
    if rank:
        pytest.importorskip("peft")
    opened = registry.open_model(tiny_model)
    fit = random_fit(opened, TrainSpec(rank=rank))
    row = {"steps": 8, "guidance": 3.0}
    config = {"model": str(tiny_model), "sampling": {"base": row, "sr1": row, "sr2": row}}
    about = {"method": "imagic", "text": "a dog", "config": config}
    about |= {"weights": opened.fingerprint(), "random_weights": False}
    fits.save_fit(tmp_path / "fit", fit, about, pil.new("RGB", (64, 64)))
    request = convert.ConvertRequest(fit=tmp_path / "fit", about=about, to=tmp_path / "new")
    convert.convert(request, opened)

    monkeypatch.chdir(tmp_path / "new")
    (program,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    program = re.sub(r"x = torch.randn\(.*\)", "x = noise", program).replace("0.7", str(ETA))
    stage = opened.cascade.stages[0]
    names = {"noise": start_noise(stage, SEED, 0)[0]}
    exec(compile(program, "README.md", "exec"), names)

    params = [adapters.merge(opened.load_stages()[0], fit.stages[0].delta)]
    conds = [interpolate(fit.stages[0], np.array([ETA], np.float32))]
    sampling = Sampling(steps=(8,), guidance=(3.0,), batch=1)
    ours = generate(opened.cascade, params, conds, fit.null, [SEED], sampling, stages=1)
    assert isinstance(names["image"], torch.Tensor)
    assert_same_picture(parity, "of a patched model", ours[0], to_numpy(names["image"]))


def test_the_program_for_three_stages_runs(tmp_path, monkeypatch):
    write.write_if(tmp_path)
    write.write_x4(tmp_path / "x4" / "model")
    row = {"steps": 2, "guidance": 2.0}
    notes = [
        StageNote(name="base", folder="if_i", family="if", size=16, **row),
        StageNote(name="sr1", folder="if_ii", family="if_sr", size=32, level=250, **row),
        StageNote(name="sr2", folder="x4/model", family="x4", size=128, level=20, **row),
    ]
    states = {f"{n.name}.{k}": 28 for n in notes[:2] for k in ("target", "optimised", "null")}
    states |= {"sr2.target": 20, "sr2.null": 20}
    tensors = {k: np.asarray(drawn(i, 1, 77, d)) for i, (k, d) in enumerate(states.items())}
    monkeypatch.chdir(tmp_path)
    save_file(tensors, convert.EMBEDDINGS)
    exec(compile(code(notes), "README.md", "exec"), {})
    with pil.open("edited.png") as picture:
        assert picture.size == (128, 128)
