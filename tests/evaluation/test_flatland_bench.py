"""The runner: what is drawn and scored once stays, whatever happens to the run; then the pages."""

import gzip
import json
import re

import numpy as np
import pytest
import standalone

from imagic_jax.errors import UserError
from imagic_jax.evaluation import flatland_bench as bench
from imagic_jax.evaluation import flatland_pages, flatland_report, gates, rows, scoring
from imagic_jax.evaluation.contenders import Contender, Outcome
from imagic_jax.evaluation.costs import Cost
from imagic_jax.evaluation.items import draw, hashed
from imagic_jax.evaluation.scoring import Gates
from imagic_jax.evaluation.units import Unit, pictures_file, save_pictures
from imagic_jax.runtime.interrupt import Interrupted, StopFlag
from imagic_jax.runtime.loop import NonFiniteLoss
from imagic_jax.runtime.progress import Reporter

COST = Cost(1.0, 0.1, 0.0, 5, 20, 40.0, 100.0)
QUIET = Reporter(quiet=True)
STRENGTHS = (0.0, 0.5, 1.0)


def first(part, count):
    drawn = (draw(part, "iid", "pose", i) for i in range(20))
    return [i for i in drawn if i is not None][:count]


def fading(name="fade", asked=None, spoil=None):
    """A contender that fades the ideal edit in: at strength 1 it is perfect."""

    def run(item, seeds, strengths):
        if asked is not None:
            asked.append((name, item.name))
        source, ideals = item.pictures()
        pictures = np.stack(
            [np.stack([(1 - a) * source + a * ideals[0]] * len(seeds)) for a in strengths]
        )
        return Outcome(pictures if spoil is None else spoil(pictures), COST)

    return Contender(name=name, knob="share", strengths=STRENGTHS, run=run)


@pytest.fixture(scope="module")
def chosen():
    return {"validation": first("validation", 1), "test": first("test", 2)}


def plan(chosen, **more):
    defaults = {
        "items": chosen,
        "reported": "test",
        "seeds": {"validation": 1, "test": 2},
        "gates": Gates(),
        "sweep_test": True,
        "stamp": {"version": "1", "config": "abc"},
        "choose_eta": False,
    }
    return bench.Plan(**{**defaults, **more})


class Flag(StopFlag):
    """Asks to stop after so many looks at it."""

    def __init__(self, looks=10**9):
        super().__init__()
        self.left = looks

    def __bool__(self):
        self.left -= 1
        return self.left < 0


@pytest.fixture(scope="module")
def finished(chosen, tmp_path_factory):
    """A whole run of two contenders."""
    out = tmp_path_factory.mktemp("bench")
    save_manifest(out, chosen)
    bench.run(plan(chosen), [fading(), fading("imagic")], out, QUIET, Flag())
    return out


def save_manifest(out, chosen):
    from imagic_jax.evaluation import manifest

    listed = {part: manifest.manifest(some) for part, some in chosen.items()}
    (out / "manifest.json").write_text(json.dumps(listed))


def test_every_picture_has_a_row_that_says_where_it_is_from(finished, chosen):
    found = rows.read(finished / bench.ROWS)
    mine = [r for r in found if r["method"] == "fade"]
    assert len(mine) == 1 * 1 * 3 + 2 * 2 * 3
    assert len([r for r in found if r["method"].startswith("anchor")]) == 2 * 8
    right = [r for r in mine if r["strength"] == 1.0]
    assert all(r["joint"] for r in right)
    assert not any(r["joint"] for r in mine if r["strength"] < 1)
    needed = (
        "item edit split text source ideals seen kept leaked nuisance_seed noise_seed shift"
        " residual undecided identity fit_s scores version config"
    )
    assert set(needed.split()) <= set(right[0])
    assert right[0]["noise_seed"] in chosen["validation"][0].seeds(1)


def test_rows_that_were_put_away_are_read_again(tmp_path):
    path = tmp_path / bench.ROWS
    rows.write(path, [{"a": 1}, {"b": float("nan")}])
    plain = rows.read(path)
    packed = tmp_path / f"{bench.ROWS}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert rows.read(path) == plain == [{"a": 1}, {"b": None}]
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(UserError, match="cannot be read"):
        rows.read(path)


def test_results_and_pages_come_from_the_rows_alone(finished):
    found = flatland_report.results(rows.read(finished / bench.ROWS), "test", resamples=100)
    assert found.chosen["fade"] == 1.0
    assert found.summaries["fade"]["J_fix"].estimate == 1.0
    assert found.problems == []
    flatland_pages.write(found, ["a note"], finished)
    page = (finished / "report.html").read_text()
    assert "a note" in page
    assert page.count("<svg") == page.count("</svg>") >= 5
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    uses = standalone.check(finished / "report.html")
    assert len({u for u in uses if u.startswith("#")}) > 20
    assert all(u.startswith(("#", "data:image/png;base64,")) for u in uses)
    figures = {p.name for p in (finished / "figures").iterdir()}
    for stem in ("plane", "leakage", "cost", "sweep-fade", "fig9-eta"):
        assert {f"{stem}.png", f"{stem}.svg"} <= figures
    assert {"random-cases.png", "worst-cases-imagic.png", "fig15-seeds.png"} <= figures


@pytest.mark.parametrize("kept", [0, 3, 16, 18, 22])
@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_run_goes_on_with_the_units_that_are_left(
    finished, chosen, tmp_path, monkeypatch, kept, torn
):
    """Whatever was written when it was killed: whole units, some rows of one, half a row."""
    whole = (finished / bench.ROWS).read_text()
    lines = whole.splitlines(keepends=True)
    (tmp_path / bench.ROWS).write_text("".join(lines[:kept]) + (lines[kept][:50] if torn else ""))
    monkeypatch.setattr(scoring, "score", from_rows(lines))
    monkeypatch.setattr("imagic_jax.evaluation.anchors.score", scoring.score)
    asked = []
    both = [fading(asked=asked), fading("imagic", asked)]
    found = bench.run(plan(chosen), both, tmp_path, QUIET, Flag())
    units = {(json.loads(line)["method"], json.loads(line)["item"]) for line in lines}
    before = bench.whole_units([json.loads(line) for line in lines[:kept]])
    assert len(asked) == len([u for u in units if u[0] in ("fade", "imagic") and u not in before])
    assert len(found) == len(lines)
    assert len({(r["method"], r["item"], r["strength"], r["seed"]) for r in found}) == len(lines)


def from_rows(lines):
    """Scores that cost nothing: those of the first row of the finished run."""
    known = json.loads(lines[0])
    names = [*scoring.FactorScores._fields, *scoring.PixelScores._fields]
    known = {n: float("nan") if known[n] is None else known[n] for n in names}
    return lambda item, outputs, gates=None: [dict(known) for _ in outputs]


def test_a_stopped_run_says_so_and_keeps_what_it_has(chosen, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(
        scoring, "score", from_rows((finished / bench.ROWS).read_text().splitlines())
    )
    monkeypatch.setattr("imagic_jax.evaluation.anchors.score", scoring.score)
    with pytest.raises(Interrupted, match="goes on"):
        bench.run(plan(chosen), [fading()], tmp_path, QUIET, Flag(looks=3))
    found = rows.read(tmp_path / bench.ROWS)
    assert {r["method"] for r in found if "anchor" not in r["method"]} == {"fade"}
    assert bench.whole_units(found).keys() == {(r["method"], r["item"]) for r in found}


def test_scoring_again_gives_the_same_rows_without_a_model(finished, chosen, tmp_path):
    import shutil

    shutil.copytree(finished, tmp_path / "again")
    (tmp_path / "again" / bench.ROWS).unlink()
    found = bench.rescore(plan(chosen), tmp_path / "again", QUIET, Flag())
    assert found == rows.read(finished / bench.ROWS)
    with pytest.raises(UserError, match="no pictures"):
        bench.rescore(plan(chosen), tmp_path / "nowhere", QUIET, Flag())


def test_the_chosen_strength_alone_is_drawn_where_that_was_asked_for(chosen, tmp_path):
    found = bench.run(plan(chosen, sweep_test=False), [fading()], tmp_path, QUIET, Flag())
    test = [r for r in found if r["method"] == "fade" and r["part"] == "test"]
    assert {r["strength"] for r in test} == {1.0}


def test_what_is_there_for_the_checks_alone_edits_a_few_validation_items(chosen, tmp_path):
    asked = []
    items = {"validation": first("validation", 3), "test": chosen["test"]}
    few = plan(items, sweep_test=False, for_checks=("steps",), check_items=2, back=1)
    found = bench.run(few, [fading("steps", asked)], tmp_path, QUIET, Flag())
    expected = [i.name for i in hashed(items["validation"])[:2]]
    assert sorted(name for _, name in asked) == sorted(expected)
    mine = [r for r in found if r["method"] == "steps"]
    assert {r["part"] for r in mine} == {"validation"}
    assert {r["strength"] for r in mine} == set(STRENGTHS)


def test_scores_for_choosing_eta_are_not_asked_for_where_there_is_nothing_to_choose(
    chosen, tmp_path, monkeypatch
):
    read = []

    def auto_scores(items):
        read.extend(i.name for i in items)
        return lambda item, pictures: {"auto_fidelity": np.ones(len(pictures))}

    monkeypatch.setattr("imagic_jax.evaluation.extras.auto_scores", auto_scores)
    one = plan(chosen, sweep_test=False, choose_eta=True)
    found = bench.run(one, [fading("imagic")], tmp_path, QUIET, Flag())
    assert read == [i.name for i in chosen["validation"]]
    told = {r["part"] for r in found if r.get("auto_fidelity") is not None}
    assert told == {"validation"}


def with_nan(pictures):
    pictures = pictures.copy()
    pictures[1, 0, 3, 4, 2] = np.nan
    return pictures


@pytest.mark.parametrize(
    ("spoil", "fault", "how_many"),
    [
        (with_nan, "not finite", 1),
        (lambda p: p[:2], "missing", 2),
        (lambda p: p[:, :, ::2, ::2], "of another size: 32 x 32 x 3", 6),
        (lambda p: p[..., 0], "of another shape: 3 x 2 x 64 x 64", 6),
    ],
)
def test_outputs_that_are_no_pictures_are_named(chosen, tmp_path, spoil, fault, how_many):
    item = chosen["test"][0]
    outcome = fading(spoil=spoil).run(item, [1, 2], STRENGTHS)
    path = pictures_file(tmp_path, "fade", item)
    save_pictures(path, outcome, STRENGTHS, [1, 2])
    unit = Unit.read(path)
    assert unit.cost == COST
    faults = [f for _, f in unit.each() if f]
    assert len(faults) == how_many
    assert all(f.startswith(fault) for f in faults)
    found = bench.unit_rows(plan(chosen), "fade", "test", item, unit)
    assert [r["fault"] for r in found if r["fault"]] == faults
    assert not any(r["joint"] for r in found if r["fault"])


def test_a_contender_that_diverges_fails_its_items_alone(chosen, tmp_path, monkeypatch):
    monkeypatch.setattr(
        scoring, "score", lambda item, outputs, gates: [scoring.faulty("")] * len(outputs)
    )
    monkeypatch.setattr("imagic_jax.evaluation.anchors.scores", lambda item, gates: {})
    bad, good = chosen["test"]

    def run(item, seeds, strengths):
        if item == bad:
            raise NonFiniteLoss(4, 0.5)
        return fading().run(item, seeds, strengths)

    contender = Contender(name="fade", knob="share", strengths=STRENGTHS, run=run)
    found = bench.run(plan(chosen), [contender], tmp_path, QUIET, Flag())
    of = {
        i: [r for r in found if r["item"] == i.name and r["method"] == "fade"]
        for i in chosen["test"]
    }
    assert {r["fault"] for r in of[bad]} == {"diverged"}
    assert not any(r["joint"] for r in of[bad])
    assert {r["fault"] for r in of[good]} == {""}
    said = flatland_report.results(found, "test", resamples=50).problems
    assert any("fade: 6 pictures diverged, counted as failed edits" in line for line in said)


def test_editing_back_is_judged_against_the_source(chosen, tmp_path):
    """A contender that draws the ideal edit of whatever text it is given comes back."""

    def run(item, seeds, strengths):
        goal = item.pictures()[1][0] if item.given is None else item.pictures()[0]
        return Outcome(np.stack([np.stack([goal] * len(seeds))] * len(strengths)), COST)

    contender = Contender(name="perfect", knob="share", strengths=STRENGTHS, run=run)
    one = {"validation": [], "test": chosen["test"][:1]}
    found = bench.run(plan(one, back=5), [contender], tmp_path, QUIET, Flag())
    (row,) = [r for r in found if r["part"] == bench.BACK_PART]
    assert row["method"] == "perfect and back"
    assert row["joint"]
    assert row["text"] == chosen["test"][0].source_text
    (line,) = flatland_report.results(found, "test", resamples=50).back
    assert line.cells["source_psnr"].estimate > 50
    assert len(bench.run(plan(one, back=5), [contender], tmp_path, QUIET, Flag())) == len(found)


def test_a_broken_picture_file_is_named(chosen, tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(b"PK nothing")
    with pytest.raises(UserError, match=r"x\.npz is missing or broken"):
        Unit.read(path)
    with pytest.raises(UserError, match="missing or broken"):
        Unit.read(tmp_path / "none.npz")


def test_items_come_back_from_the_folder(finished, chosen, tmp_path):
    found, notes = bench.open_items(finished, bench.TIERS["smoke"], ["iid"])
    assert found == chosen
    assert notes == []
    (tmp_path / "manifest.json").write_text('{"validation": []}')
    with pytest.raises(UserError, match="is no manifest"):
        bench.open_items(tmp_path, bench.TIERS["smoke"], ["iid"])


def test_a_gate_is_frozen_and_belongs_to_its_weights(tmp_path):
    rho = np.linspace(0.0, 0.01, 101)
    found = gates.about(rho, "abc", "tiny")
    assert found["residual"] == pytest.approx(0.0099)
    path = tmp_path / "gate.json"
    gates.freeze(found, path)
    gates.freeze(found, path)
    with pytest.raises(UserError, match="frozen before"):
        gates.freeze(gates.about(rho * 2, "abc", "tiny"), path)
    gate, (note,) = gates.gates_for("abc", path)
    assert gate == Gates(found["residual"], 0.2)
    assert "99% of 101 plain samples of tiny" in note
    with pytest.raises(UserError, match="other weights"):
        gates.gates_for("xyz", path)
    path.write_text("{}")
    with pytest.raises(UserError, match="lacks model"):
        gates.gates_for("abc", path)
    assert gates.gates_for("nobody's")[0] == Gates()
