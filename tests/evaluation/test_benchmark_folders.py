"""Public benchmarks are read as they were published, and what is wrong with them is named."""

import csv
import importlib.util
import json
from pathlib import Path

import benchmark_folders as data
import numpy as np
import pytest
from PIL import Image as pil

from imagic_jax.errors import UserError
from imagic_jax.evaluation import piebench, published, tedbench
from imagic_jax.evaluation.edit_items import RunLengths, find_output, inside


@pytest.fixture
def ted(tmp_path):
    return data.write_tedbench(tmp_path / "tedbench")


def test_names_and_texts_are_the_authors(ted, tmp_path):
    benchmark = published.load("tedbench", ted, tmp_path)
    assert [i.output for i in benchmark.items] == list(data.RESULTS)
    assert [(i.image.name, i.target_text) for i in benchmark.items] == list(data.EDITS)
    assert not benchmark.problems
    assert benchmark.notes == (
        "4 x its middle square was cut out",
        "1 x transparent parts were put on white",
    )


def test_items_of_one_picture_are_one_group_whatever_its_names(ted, tmp_path):
    items = published.load("tedbench", ted, tmp_path).items
    assert [i.group for i in items] == [
        "bird.jpeg", "bird.jpeg", "door.jpeg", "pizza1.png", "pizza1.png", "red_car.jpeg",
        "tree_1.jpeg",
    ]  # fmt: skip


def test_the_authors_repository_holds_it_one_deeper(ted, tmp_path):
    assert len(published.load("tedbench", ted.parent, tmp_path / "x").items) == 7


def test_a_missing_and_a_broken_picture_are_named(ted, tmp_path):
    (ted / "originals" / "door.jpeg").unlink()
    whole = (ted / "originals" / "pizza1.png").read_bytes()
    (ted / "originals" / "pizza1.png").write_bytes(whole[:300])
    benchmark = published.load("tedbench", ted, tmp_path)
    assert [(p.what, p.item) for p in benchmark.problems] == [
        ("picture missing", "door.jpeg-A_door_with_a_pet_enterance"),
        ("picture unreadable", "pizza1.png-Pizza_with_pepperoni"),
        ("picture unreadable", "pizza1.png-A_half_eaten_pizza"),
    ]
    assert (len(benchmark.items), benchmark.listed) == (4, 7)


def test_what_is_listed_twice_is_asked_once_and_named(ted, tmp_path):
    path = ted / "input_list.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([*rows, {**rows[0], "target_text": rows[0]["target_text"][:-1]}]))
    benchmark = published.load("tedbench", ted, tmp_path)
    assert len(benchmark.items) == 7
    assert [p.what for p in benchmark.problems] == ["listed twice"]
    assert benchmark.listed == 8


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"items": []}', "must hold a list of edits, not a dict"),
        ("[]", "an empty list"),
        ('[{"image": "a.png", "caption": "b"}]', "entry 1 has no img_name.*image, caption"),
        ('[{"img_name": "bird.png", "target_text": 3}]', "entry 1 has no target_text"),
        ('[{"img_name": "bird.png", "target_text": " "}]', "entry 1 has no target_text"),
        ('[{"img_name": "../../passwd", "target_text": "a"}]', "no path inside"),
        ('["bird.png"]', "entry 1 has no img_name.*it has a str"),
        ('[{"img_name": ', "broken or cut off"),
    ],
)
def test_lists_of_another_form_are_refused(ted, tmp_path, content, named):
    (ted / "input_list.json").write_text(content)
    with pytest.raises(UserError, match=named):
        published.load("tedbench", ted, tmp_path)


def test_no_usable_picture_at_all_is_an_error(ted, tmp_path):
    for path in (ted / "originals").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no usable item.*there is no file"):
        published.load("tedbench", ted, tmp_path)


@pytest.mark.parametrize("suite", published.SUITES)
def test_folders_of_something_else_are_refused(tmp_path, suite):
    with pytest.raises(UserError, match="there is no folder"):
        published.load(suite, tmp_path / "none", tmp_path)
    with pytest.raises(UserError, match=r"is no (TEdBench|PIE-Bench)"):
        published.load(suite, tmp_path, tmp_path)


def test_names_of_results_are_safe_files():
    assert tedbench.output_name("a.png", "A b. c d.") == "a.png-A_b._c_d.png"
    assert tedbench.output_name("a.png", "a/b\\c") == "a.png-a_b_c.png"
    long = tedbench.output_name("a.png", "é" * 300)
    assert len(long.encode()) <= 220
    assert long != tedbench.output_name("a.png", "é" * 301)


def test_tedbench_plus_is_a_table(ted, tmp_path):
    (ted / "input_list.json").unlink()
    with (ted / "tedbench++.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["img_name", "target_text", "seed"])
        writer.writeheader()
        writer.writerow({"img_name": "bird.png", "target_text": 'A bird, "singing"', "seed": 1})
        writer.writerow({"img_name": "door.jpeg", "target_text": "A door", "seed": 2})
    assert published.recognise(ted) == "tedbench++"
    items = published.load("tedbench++", ted, tmp_path).items
    assert [i.target_text for i in items] == ['A bird, "singing"', "A door"]
    (ted / "tedbench++.csv").write_text("img_name;target_text\nbird.png;A bird\n")
    with pytest.raises(UserError, match="has no img_name"):
        published.load("tedbench++", ted, tmp_path)
    (ted / "tedbench++.csv").write_bytes(b"img_name,target_text\nbird.png,\xff\n")
    with pytest.raises(UserError, match="no table in UTF-8"):
        published.load("tedbench++", ted, tmp_path)


def write_parquet(path, rows):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(arrow.Table.from_pylist(rows), path)


def test_the_hugging_face_copy_is_unpacked_to_the_same_items(ted, tmp_path):
    data.write_results(ted / "imagic", side=32)
    rows = []
    for (name, text), result in zip(data.EDITS, data.RESULTS, strict=True):
        original = (ted / "originals" / name).read_bytes()
        edited = (ted / "imagic" / result).read_bytes()
        rows.append(
            {
                "original_image": {"bytes": original, "path": None if "bird" in name else name},
                "caption": text,
                "edited_image": {"bytes": edited, "path": None},
            }
        )
    (tmp_path / "hf" / "data").mkdir(parents=True)
    write_parquet(tmp_path / "hf" / "data" / "val-00000-of-00001.parquet", rows)
    assert published.recognise(tmp_path / "hf") == "tedbench"
    benchmark = published.load("tedbench", tmp_path / "hf", tmp_path / "unpacked")
    assert [i.target_text for i in benchmark.items] == [t for _, t in data.EDITS]
    assert len({i.group for i in benchmark.items}) == 5
    assert benchmark.items[0].group == benchmark.items[1].group
    for item, result in zip(benchmark.items, data.RESULTS, strict=True):
        found = find_output(tmp_path / "unpacked" / "imagic", item)
        assert found is not None
        assert found.read_bytes() == (ted / "imagic" / result).read_bytes()


def test_parquet_files_of_another_form_are_refused(tmp_path):
    write_parquet(tmp_path / "a.parquet", [{"image": b"", "caption": "a"}])
    with pytest.raises(UserError, match=r"no column original_image \(it has image, caption\)"):
        published.load("tedbench", tmp_path, tmp_path / "u")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(UserError, match="cannot be read"):
        published.load("tedbench", tmp_path, tmp_path / "u")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").touch()
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'imagic-jax\[parquet\]'"):
        published.load("tedbench", tmp_path, tmp_path / "u")


def test_piebench(tmp_path):
    benchmark = published.load("piebench", data.write_piebench(tmp_path / "pie"), tmp_path)
    first, second, *_ = benchmark.items
    assert (first.source_text, first.target_text) == (
        "a red dog in the snow",
        "a blue dog in the snow",
    )
    assert [i.edit_type for i in benchmark.items] == [
        "random", "change object", "change style", "add object",
    ]  # fmt: skip
    assert second.output == ("annotation_images/1_change_object_80/1_artificial/111000000001.png")
    assert [(p.what, p.item) for p in benchmark.problems] == [("mask empty", "200000000003")]
    assert benchmark.listed == 4


def test_masks_are_decoded_as_the_reference_does():
    """Its loop, written out; runs reach beyond rows and are cut at the end of the picture."""
    runs = (3, 4, 510, 5, 512 * 511 + 500, 999)
    flat = np.zeros(512 * 512)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        for j in range(min(length, len(flat) - start)):
            flat[start + j] = 1
    expected = flat.reshape(512, 512)
    np.testing.assert_array_equal(RunLengths(runs).decode(), expected.astype(bool))
    expected[0] = expected[-1] = expected[:, 0] = expected[:, -1] = 1
    np.testing.assert_array_equal(piebench.edit_mask(RunLengths(runs)), expected.astype(bool))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"mask": [1, 2, 3]}, "start, length"),
        ({"mask": [-1, 2]}, "start, length"),
        ({"mask": "none"}, "start, length"),
        ({"mask": [512 * 512, 1]}, "begins outside"),
        ({"editing_type_id": "12"}, r"must be 0\.\.9"),
        ({"editing_type_id": 1}, "no editing_type_id"),
        ({"editing_prompt": "[]"}, "empty editing_prompt"),
        ({"image_path": "/etc/passwd"}, "no path inside"),
    ],
)
def test_mappings_of_another_form_are_refused(tmp_path, change, named):
    folder = data.write_piebench(tmp_path / "pie")
    rows = json.loads((folder / "mapping_file.json").read_text())
    (folder / "mapping_file.json").write_text(
        json.dumps({"000000000000": {**rows["000000000000"], **change}})
    )
    with pytest.raises(UserError, match=named):
        published.load("piebench", folder, tmp_path)


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/../../b", "a\\b"])
def test_paths_from_files_stay_inside(tmp_path, name):
    with pytest.raises(UserError, match="no path inside"):
        inside(tmp_path, name, "list")


def test_the_first_items_alone(ted, tmp_path):
    (ted / "originals" / "door.jpeg").unlink()
    whole = published.load("tedbench", ted, tmp_path)
    few = whole.first(2)
    assert [i.image.name for i in few.items] == ["bird.jpeg", "bird.png"]
    assert few.digest == whole.digest
    assert [p.what for p in few.problems] == ["picture missing"]


def test_flatland_items_as_a_benchmark_folder(tmp_path):
    """What benchmarks/flatland_folder.py writes is read as TEdBench, ideal edits as its results."""
    path = Path(__file__).parents[2] / "benchmarks" / "flatland_folder.py"
    spec = importlib.util.spec_from_file_location("flatland_folder", path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    program.write(tmp_path / "flatland", 1, 64)
    ted = published.load(
        published.recognise(tmp_path / "flatland"), tmp_path / "flatland", tmp_path
    )
    (item,) = ted.items
    ideal = find_output(tmp_path / "flatland" / "ideal", item)
    with pil.open(item.image) as source, pil.open(ideal) as edited:
        change = np.abs(np.asarray(source, float) - np.asarray(edited, float)).max(axis=-1)
    assert 0 < (change > 8).mean() < 0.9
