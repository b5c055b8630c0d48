"""`imagic evaluate`: rows of one folder belong together, and an interrupted run goes on."""

import numpy as np
import pytest
from PIL import Image as pil

from imagic_jax.evaluation import fidelity
from imagic_jax.evaluation.items import EDITS


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


def test_flatland_wants_methods_tiers_and_splits_that_there_are(imagic, preset):
    line = ["evaluate", f"--config={preset}", "--suite=flatland"]
    for flag, named in (
        ("--methods=imagic,sdedits", "--methods must be one of"),
        ("--tier=huge", "--tier must be one of smoke, dev, full"),
        ("--splits=iid,odd", "--splits must be one of iid"),
        ("--edits=pose,hats", "--edits must be one of pose, colour, class, hat"),
        ("--eta=auto", "every strength is drawn"),
        ("--gate=no.json", "no.json is no gate file"),
    ):
        code, _, err = imagic(*line, flag)
        assert code == 2, flag
        assert named in err
    code, _, err = imagic(*line, "--splits=iid,tgt-ood", "--edits=pose,hat")
    assert code == 2
    assert "--edits: the split tgt-ood has no hat edits" in err
    _, out, _ = imagic("evaluate", "--help")
    assert ", ".join(EDITS) in " ".join(out.split())  # --edits lists every kind there is


def test_a_report_needs_rows_and_a_choice(imagic, preset, tmp_path):
    line = ["evaluate", f"--config={preset}", "--suite=flatland", "--out=f"]
    code, _, err = imagic(*line, "--report_only")
    assert code == 2
    assert "rows.jsonl is missing or empty" in err
    code, _, err = imagic(*line, "--report_only", "--score_only")
    assert code == 2
    assert "not both" in err
    assert not (tmp_path / "f").exists()


@pytest.mark.slow
def test_the_smoke_tier_runs_on_the_tiny_cascade_and_is_reported_again(imagic, preset, tmp_path):
    line = ["evaluate", f"--config={preset}", "--suite=flatland", "--count=2", "--out=f"]
    line += ["--methods=imagic,imagic_no_tuning,sdedit,text_only,copy", "--resamples=200"]
    code, table, _ = imagic(*line)
    assert code == 0
    assert "anchor: oracle" in table
    before = (tmp_path / "f" / "rows.jsonl").read_text()
    assert imagic(*line)[:2] == (0, table)
    assert (tmp_path / "f" / "rows.jsonl").read_text() == before
    (tmp_path / "f" / "report.html").unlink()
    assert imagic(*line, "--report_only")[:2] == (0, table)
    assert (tmp_path / "f" / "report.html").is_file()
    assert imagic(*line, "--score_only")[:2] == (0, table)
    code, _, err = imagic(*line, "--steps=2")
    assert code == 2
    assert "config.sampling.base.steps" in err
