"""Tables, comparisons and the paper's checks from made-up rows whose answers are known."""

import json

import made_up_rows as made_up
import numpy as np
import pytest

from imagic_jax.errors import UserError
from imagic_jax.evaluation import eta_gain, flatland_report, tables
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
    return {m for m in results.found if m.startswith("anchor")}


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
    assert found.notes == [
        "eta by score: fidelity may fall by 2 dB, chosen on validation",
        "best by score: of 11 pictures per item (etas and seeds) with at least 0.7 of the"
        " alignment's rise the most faithful",
    ]
    auto = found.found[tables.AUTO]
    assert {r["strength"] for r in auto.rows.flat} == {0.6}
    assert found.summaries[tables.AUTO]["J_fix"].estimate == 1.0
    assert tables.AUTO not in found.comparisons  # another rule, not another method
    gain = found.gains["JOINT"]
    assert (gain.scored.estimate, gain.fixed.estimate) == (1.0, 1.0)
    assert gain.difference[:3] == (0.0, 0.0, 0.0)
    plain = flatland_report.results(made_up.sweep("imagic"), "test", **FAST)
    assert tables.AUTO not in plain.found


def test_the_best_by_score_is_one_picture_of_all_seeds_and_strengths():
    """Seed 1 of the second item alone shows the edit; of the first item the third eta of seed 0."""
    rows = []
    for i in range(2):
        for seed in range(2):
            for e, eta in enumerate(made_up.ETAS):
                right = (seed, e) == ((0, 2), (1, 10))[i]
                scores = {"joint": right, "auto_alignment": 1.0 if right else 0.05 * e}
                scores["auto_fidelity"] = 30.0 - e
                rows.append(
                    made_up.row(
                        item=f"validation-{i}", part="validation", strength=eta, seed=seed, **scores
                    )
                )
    found = flatland_report.results(rows, "validation", **FAST)
    one = found.found[tables.BEST]
    assert one.rows.shape == (2, 1, 1)
    assert [r["seed"] for r in one.rows.flat] == [0, 1]
    assert one.values("joint").mean() == 1.0
    assert found.found["imagic"].values("joint").mean() == 1 / 22
    assert tables.BEST not in found.comparisons
    assert "imagic_best" in flatland_report.markdown(found, [])
    assert flatland_report.edited(found) == ["imagic"]


def chosen_alone(rows):
    """The same run where test items were drawn at the strength that validation chose."""
    validation = tables.sweeps(rows, "validation")
    chosen = tables.chosen_strengths(validation, validation)
    return [
        r
        for r in rows
        if r["part"] == "validation" or r["strength"] in (None, chosen.get(r["method"], 0.0))
    ]


def test_where_test_items_were_not_swept_validation_items_tell_of_sweeps(results):
    rows, whole = chosen_alone(made_up.run()), results
    found = flatland_report.results(rows, "test", **FAST)
    assert found.swept_part == "validation"
    assert whole.swept_part == "test"
    assert "whole sweeps, and what is said about them, are of validation items" in found.notes
    # What is about test items is the same.
    assert found.chosen == whole.chosen
    for a, b in zip(found.factors, whole.factors, strict=True):
        assert a.cells == b.cells
        assert a.strength == b.strength
    assert found.comparisons == whole.comparisons
    # What is about sweeps is what validation says.
    alone = flatland_report.results(made_up.run(), "validation", **FAST)
    assert str(found.summaries) == str(alone.summaries)  # NaN is not equal to itself
    told = {a.name: a for a in found.answers}
    assert told["C6"] == {a.name: a for a in whole.answers}["C6"]
    for name in ("C1", "C2", "C3", "C4"):
        assert told[name] == {a.name: a for a in alone.answers}[name]
        assert told[name].verdict == "seen"
        assert told[name].numbers.endswith("over 12 pictures, one seed each")
    assert told["C5"].verdict == "cannot be told"
    text = flatland_report.markdown(found, [])
    assert "## Whole sweeps, validation items" in text


def test_anchors_have_no_sweeps():
    rows = made_up.run(seeds=1)
    rows.append(made_up.row("anchor: copy", "validation-pose-0", part="validation", strength=None))
    for part in ("validation", "test"):
        found = flatland_report.results(rows, part, **FAST)
        assert not _anchors(found) & set(found.summaries)
        assert "anchor: copy" in _anchors(found)


def test_methods_that_are_there_for_the_checks_alone_are_in_no_table():
    kept = [
        r
        for r in chosen_alone(made_up.run())
        if r["part"] == "validation" or not r["method"].endswith("_embedding_steps")
    ]
    some = {f"validation-{e}-{i}" for i, e in enumerate(made_up.EDITS)}
    kept = [r for r in kept if "_embedding_steps" not in r["method"] or r["item"] in some]
    found = flatland_report.results(kept, "test", **FAST)
    assert not [m for m in found.found if m.endswith("_embedding_steps")]
    assert "imagic_10_embedding_steps" in found.swept
    answer = next(a for a in found.answers if a.name == "C4")
    assert answer.verdict != "cannot be told"
    assert answer.numbers.endswith("over 4 pictures, one seed each")
    assert any(
        p.startswith("validation: imagic_10_embedding_steps: 8 of 12") for p in found.problems
    )


def by_score(part, items, best):
    """Every picture is right at one eta, which the scores tell; items of the list `best`."""
    rows = []
    for i in range(items):
        for eta in made_up.ETAS:
            scores = {"joint": eta == best[i], "auto_fidelity": 30.0 if eta <= best[i] else 10.0}
            rows.append(made_up.row(item=f"{part}-{i}", part=part, strength=eta, **scores))
    return rows


def test_eta_by_score_gains_where_pictures_want_different_etas():
    best = [0.2, 0.4, 0.6, 0.6]
    rows = by_score("validation", 4, best) + by_score("test", 4, best)
    gain = flatland_report.results(rows, "test", **FAST).gains["JOINT"]
    assert (gain.scored.estimate, gain.fixed.estimate, gain.difference.estimate) == (1.0, 0.5, 0.5)


def test_what_was_chosen_for_a_picture_never_saw_it():
    """Four pictures, each right at an eta of its own: whatever the others chose is wrong."""
    (sweep,) = tables.sweeps(by_score("validation", 4, [0.2, 0.4, 0.6, 0.8]), "validation").values()
    scored, fixed = eta_gain.left_out(sweep)
    assert scored.values("joint").mean() == 1.0  # the rule needs no number of its own here
    assert fixed.values("joint").mean() == 0.0
    rows = chosen_alone(
        by_score("validation", 4, [0.2, 0.4, 0.6, 0.8]) + by_score("test", 2, [0.2, 0.4])
    )
    found = flatland_report.results(rows, "test", **FAST)
    assert found.gains["JOINT"].difference.estimate == 1.0
    assert "## Eta by score against one eta, each picture's chosen on the others" in (
        flatland_report.markdown(found, [])
    )
