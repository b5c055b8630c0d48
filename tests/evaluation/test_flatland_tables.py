"""Tables, comparisons and the paper's checks from made-up rows whose answers are known."""

import json

import made_up
import numpy as np
import pytest

from imagic_jax.errors import UserError
from imagic_jax.evaluation import flatland_report, tables
from imagic_jax.evaluation.checks import checks

FAST = {"resamples": 200}


@pytest.fixture(scope="module")
def results():
    return flatland_report.results(made_up.run(), "test", **FAST)


def answers(rows):
    found = tables.sweeps(rows, "test")
    chosen = tables.chosen_strengths(found, tables.sweeps(rows, "validation"))
    return {c.name: c for c in checks(found, chosen, **FAST)}


def test_strengths_are_chosen_on_validation_and_used_on_test():
    rows = []
    for part, best in (("validation", 0.3), ("test", 0.8)):
        for eta in made_up.ETAS:
            right = {"joint": eta == best, "success": eta == best}
            rows.append(made_up.row(part=part, item=f"{part}-1", strength=eta, **right))
    found = flatland_report.results(rows, "test", **FAST)
    assert found.chosen == {"imagic": 0.3}
    assert found.factors[0].cells["joint"].estimate == 0.0
    assert found.summaries["imagic"]["J_orc"].estimate == 1.0
    assert (
        flatland_report.results(rows, "validation", **FAST).summaries["imagic"]["J_fix"][0] == 1.0
    )


def test_a_tie_in_joint_success_goes_to_what_is_read_and_then_to_the_weaker():
    rows = [
        made_up.row(part="validation", strength=eta, read_success=eta >= 0.6)
        for eta in made_up.ETAS
    ]
    found = tables.sweeps(rows, "validation")
    assert tables.chosen_strengths(found, found) == {"imagic": 0.6}


def test_anchors_come_first_and_methods_in_their_order(results):
    order = [line.method for line in results.factors]
    assert order[:2] == ["anchor: copy", "anchor: oracle"]
    assert order[2] == "imagic"
    assert results.factors[1].cells["joint"][:1] == (1.0,)
    assert results.factors[1].cells["joint"].kind == "wilson"
    assert {c.method for c in results.costs} == set(order[2:])


def test_what_a_method_was_given_stands_beside_it():
    rows = [made_up.row(method=m, part="validation") for m in ("imagic", "ddib")]
    found = flatland_report.results(rows, "validation", **FAST)
    head, body = flatland_report.grids(found)["What the reader says"]
    assert head[:2] == ["method", "given besides"]
    assert {row[0]: row[1] for row in body} == {"imagic": "", "ddib": "source text"}


def test_an_interval_holds_its_estimate(results):
    for line in results.factors:
        for interval in line.cells.values():
            assert interval.low <= interval.estimate <= interval.high


def test_imagic_is_compared_with_all_others_and_corrected(results):
    assert set(results.comparisons) == set(results.chosen) - {"imagic", *_anchors(results)}
    for comparison, adjusted in results.comparisons.values():
        assert adjusted >= comparison.p
    worse = results.comparisons["sdedit"][0]
    assert worse.difference.low > 0
    assert worse.superiority.estimate > 0.6


def _anchors(results):
    return {m for m in results.chosen if m.startswith("anchor")}


def test_main_tables_are_about_iid_and_other_splits_stand_apart():
    rows = [made_up.row(item=f"i{i}", strength=0.0, joint=True) for i in range(3)]
    rows += [made_up.row(item=f"h{i}", strength=0.0, split="hard") for i in range(2)]
    found = flatland_report.results(rows, "test", **FAST)
    assert found.factors[0].cells["joint"].estimate == 1.0
    assert found.factors[0].sources == 3
    assert found.kinds["split hard"]["imagic"].estimate == 0.0
    assert found.kinds["pose edits"]["imagic"].sources == 3
    assert any("split iid" in n for n in found.notes)


def test_leakage_by_hand():
    leaked = {"leaked": ["colour"], "preservation": 0.8}
    rows = [made_up.row(item=f"i{i}", **(leaked if i < 3 else {})) for i in range(4)]
    rows.append(made_up.row(item="c", edit="colour"))
    (sweep,) = tables.sweeps(rows, "test").values()
    kinds, factors, matrix = tables.leakage(sweep, 0.5)
    assert kinds == ["pose", "colour"]
    assert matrix[0, factors.index("colour")] == 0.75
    assert np.isnan(matrix[0, factors.index("state")])  # what a pose edit changes cannot leak
    assert np.isnan(matrix[1, factors.index("colour")])
    assert matrix[1, factors.index("state")] == 0.0


def test_what_is_missing_or_broken_is_named_and_never_averaged():
    rows = [made_up.row(item=f"i{i}", strength=s, joint=True) for i in range(3) for s in (0.0, 1.0)]
    rows += [made_up.row(method="copy", item=f"i{i}", strength=0.0) for i in range(2)]
    nothing = dict.fromkeys(("preservation", "identity", "cf_psnr", "background_psnr"))
    rows[0] |= {"fault": "not finite: holds NaN or infinity", "joint": False, **nothing}
    del rows[3]  # item 1 at strength 1
    found = flatland_report.results(rows, "test", **FAST)
    said = " | ".join(found.problems)
    assert "imagic: 1 pictures not finite" in said
    assert "counted as failed edits: i0 (seed 0, strength 0)" in said
    assert "1 pictures not run, left out: i1 (seed 0, strength 1)" in said
    assert "copy: 1 of 3 items were not run: i2" in said
    line = found.factors[0]
    assert line.faults == 1
    assert line.cells["joint"].estimate == pytest.approx(2 / 3)
    assert line.cells["preservation"].estimate == 1.0
    assert line.left_out["preservation"] == 1
    text = flatland_report.markdown(found, [])
    assert "(n=2)" in text
    assert all(p in text for p in found.problems)


def test_rows_scored_in_another_way_are_refused():
    with pytest.raises(UserError, match="--score_only"):
        tables.sweeps([made_up.row(), made_up.row(scores="old")], "test")


def test_everything_is_written_and_read_by_other_programs(results, tmp_path):
    text = flatland_report.write(results, ["made up"], tmp_path)
    told = json.loads((tmp_path / "tables.json").read_text())
    assert told["chosen"]["imagic"] == results.chosen["imagic"]
    assert len(told["checks"]) == 6
    tables_of = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables_of) == 7
    for lines in tables_of:
        assert len({line.count("|") for line in lines}) == 1


def test_the_papers_findings_are_seen_where_they_are_built_in(results):
    assert {a.name: a.verdict for a in results.answers} == dict.fromkeys(
        ("C1", "C2", "C3", "C4", "C5", "C6"), "seen"
    )


def test_failures_to_replicate_are_said_as_plainly():
    """A method that never edits, does not come back, and does not depend on its seeds."""
    never = {"onset": 5.0, "loss": 9.0, "spread": 0.0, "background_psnr": 20.0}
    rows = []
    for part in ("validation", "test"):
        for name in ("imagic", "imagic_no_tuning", "sdedit", "ddib"):
            rows += made_up.sweep(name, part, 8, 2, **never)
        for n in (10, 100, 1000):
            rows += made_up.sweep(f"imagic_{n}_embedding_steps", part, 8, 2, **never)
    found = answers(rows)
    assert {n: c.verdict for n, c in found.items()} == {
        "C1": "not seen",
        "C2": "not seen",
        "C3": "not seen",
        "C4": "not seen",
        "C5": "cannot be told",
        "C6": "not seen",
    }
    assert "20.0 [20.0, 20.0] dB" in found["C1"].numbers
    assert "no picture is edited" in found["C3"].numbers


def test_what_was_not_run_cannot_be_told():
    found = answers(made_up.sweep("copy"))
    assert {c.verdict for c in found.values()} == {"cannot be told"}
    assert found["C6"].numbers == "not run: imagic, sdedit, ddib"


def test_eta_by_score_takes_the_largest_within_a_tolerance_chosen_on_validation():
    """The picture falls apart after eta = 0.6, by 7 dB; half of it is lost before, at no cost."""
    rows = []
    for part in ("validation", "test"):
        for i in range(4):
            for eta in made_up.ETAS:
                fidelity = 30.0 - (2.0 if eta <= 0.6 else 7.0) * (eta > 0)
                right = {"joint": 0.3 < eta <= 0.6, "auto_alignment": eta}
                name = f"{part}-{i}"
                scores = {**right, "auto_fidelity": fidelity}
                rows.append(made_up.row(item=name, part=part, strength=eta, **scores))
    found = flatland_report.results(rows, "test", **FAST)
    assert found.notes == ["eta by score: fidelity may fall by 2 dB, chosen on validation"]
    auto = found.found[tables.AUTO]
    assert {r["strength"] for r in auto.rows.flat} == {0.6}
    assert found.summaries[tables.AUTO]["J_fix"].estimate == 1.0
    assert tables.AUTO in found.comparisons
    plain = flatland_report.results(made_up.sweep("imagic"), "test", **FAST)
    assert tables.AUTO not in plain.found
