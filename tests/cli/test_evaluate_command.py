"""`imagic evaluate`: rows of one folder belong together, and an interrupted run goes on."""

import json

import numpy as np
import pytest
from PIL import Image as pil

from imagic_jax.evaluation import fidelity, figures, imagic_bench


@pytest.fixture
def drawn(monkeypatch):
    """Splits that were drawn and read, in order; nothing is computed."""
    asked = []

    def measure(loaded, settings, split, count, reporter, part):
        asked.append(split)
        row = {"right": {"cls": True, "colour": split == "iid"}, "residual": 0.0}
        return [row] * count, np.zeros((count, 8, 8, 3), np.float32)

    monkeypatch.setattr(fidelity, "measure", measure)
    return asked


def test_a_measured_split_is_not_drawn_again(imagic, preset, drawn, tmp_path):
    line = ["evaluate", f"--config={preset}", "--suite=fidelity", "--count=3", "--out=f"]
    code, out, _ = imagic(*line)
    assert code == 0
    assert drawn == ["iid", "held-out", "phrase"]
    assert "| held-out | 3 | 0.500 | 0.000 |" in out
    (tmp_path / "f" / "rows-held-out.jsonl").unlink()
    assert imagic(*line)[:2] == (0, out)
    assert drawn[3:] == ["held-out"]
    with pil.open(tmp_path / "f" / "samples-iid.png") as sheet:
        assert sheet.size[0] > 3 * 96


@pytest.mark.parametrize(
    ("changed", "named"),
    [("--count=4", "config.count"), ("--steps=2", "config.sampling.base.steps")],
)
def test_rows_of_other_settings_are_not_mixed(imagic, preset, drawn, changed, named):
    line = ["evaluate", f"--config={preset}", "--suite=fidelity", "--count=3", "--out=f"]
    assert imagic(*line)[0] == 0
    code, _, err = imagic(*line, changed)
    assert code == 2
    assert named in err
    assert len(drawn) == 3


def test_plain_samples_do_not_depend_on_how_edits_are_fitted(imagic, preset, drawn):
    line = ["evaluate", f"--config={preset}", "--suite=fidelity", "--count=3", "--out=f"]
    assert imagic(*line)[0] == 0
    assert imagic(*line, "--config.tuning.base.steps=7")[0] == 0


def test_rows_of_other_weights_are_not_mixed(imagic, preset, drawn, monkeypatch):
    line = ["evaluate", f"--config={preset}", "--suite=fidelity", "--count=3", "--out=f"]
    assert imagic(*line)[0] == 0
    monkeypatch.setattr("imagic_jax.backbones.registry.Opened.fingerprint", lambda _: "others")
    code, _, err = imagic(*line)
    assert code == 2
    assert "different: weights" in err


@pytest.fixture
def edited(monkeypatch):
    """Items that were fitted and scored, in order; nothing is computed."""
    asked = []

    def rows(item, method):
        scores = dict.fromkeys((k for _, k in imagic_bench.COLUMNS), 1.0)
        return {
            "item": item.name, "edit": item.edit, "method": method, "eta": 0.5, "seed": 0, **scores,
        }  # fmt: skip

    def one(loaded, item, settings, pictures):
        asked.append(item.name)
        return [rows(item, m) for m in ("imagic", "no fine-tuning", "copy", "oracle")]

    def text_only(loaded, items, settings, reporter):
        return {i.name: rows(i, "text-only") for i in items}

    def picture(*_):
        return pil.new("RGB", (8, 8))

    monkeypatch.setattr(imagic_bench, "_one", one)
    monkeypatch.setattr(imagic_bench, "text_only", text_only)
    monkeypatch.setattr(figures, "contact_sheet", picture)
    monkeypatch.setattr(figures, "ablation_strip", picture)
    return asked


@pytest.mark.parametrize("kept", [0, 1, 4, 5, 7])
@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_run_goes_on_with_the_items_that_are_left(
    imagic, preset, edited, tmp_path, kept, torn
):
    """Whatever was written when it was killed: whole items, some rows of one, half a row."""
    line = ["evaluate", f"--config={preset}", "--count=2", "--out=i"]
    code, table, _ = imagic(*line)
    assert code == 0
    assert len(edited) == 2
    path = tmp_path / "i" / "items.jsonl"
    whole = path.read_text()
    rows = whole.splitlines(keepends=True)
    path.write_text("".join(rows[:kept]) + (rows[kept][:40] if torn else ""))
    code, again, _ = imagic(*line)
    assert (code, again) == (0, table)
    assert path.read_text() == whole
    assert edited[2:] == edited[kept // 5 : 2]
    assert json.loads((tmp_path / "i" / "table.json").read_text())["oracle"]["items"] == 2
