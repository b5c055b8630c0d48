"""Every kind of picture file is read, or refused in one sentence."""

import numpy as np
import pytest
from PIL import Image as pil

from imagic_jax.errors import UserError
from imagic_jax.jobs import pictures


def gradient(width=48, height=32):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], -1).astype(np.uint8)


@pytest.fixture
def saved(tmp_path):
    def save(picture, name="p.png", **options):
        path = tmp_path / name
        picture.save(path, **options)
        return path

    return save


def test_a_plain_picture_is_cropped_to_its_middle_square(saved):
    source = pictures.load_source(saved(pil.fromarray(gradient())), 32)
    assert source.box == (8, 0, 32)
    assert source.notes == ()
    np.testing.assert_allclose(
        source.square[0], gradient()[:, 8:40].astype(np.float32) / 127.5 - 1.0, atol=1e-6
    )


def test_bad_files_are_refused_by_name(tmp_path):
    missing = tmp_path / "nothing.png"
    text = tmp_path / "text.png"
    text.write_text("this is no picture\n" * 100)
    empty = tmp_path / "empty.png"
    empty.touch()
    whole = tmp_path / "whole.png"
    pil.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    half = tmp_path / "half.png"
    half.write_bytes(whole.read_bytes()[:3000])
    dot = tmp_path / "dot.png"
    pil.new("RGB", (1, 1)).save(dot)
    for path, words in (
        (missing, "there is no file"),
        (tmp_path, "is a folder"),
        (text, "is no picture"),
        (empty, "is empty"),
        (half, "broken or cut off"),
        (dot, "1 x 1 pixels"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            pictures.load_source(path, 32)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_all_modes_become_rgb(saved):
    rgb = pil.fromarray(gradient())
    sixteen = pil.fromarray(np.full((32, 32), 65535 // 2, np.uint16))
    for picture, name, note in (
        (rgb.convert("L"), "g.png", "from L to RGB"),
        (rgb.convert("CMYK"), "c.jpg", "from CMYK to RGB"),
        (rgb.convert("P"), "p.png", "from P to RGB"),
        (rgb.convert("1"), "b.png", "from 1 to RGB"),
        (sixteen, "s.png", "to RGB"),
    ):
        source = pictures.load_source(saved(picture, name), 32)
        assert source.upright.dtype == np.uint8
        assert any(note in n for n in source.notes), (name, source.notes)
    grey = pictures.load_source(saved(sixteen, "s2.png"), 32)
    assert abs(float(grey.square.mean())) < 0.01  # half of 16 bits is mid grey


def test_transparency_is_put_on_white(saved):
    rgba = pil.new("RGBA", (32, 32), (255, 0, 0, 0))
    source = pictures.load_source(saved(rgba), 32)
    assert float(source.square.min()) == 1.0
    assert "white" in source.notes[0]


def test_exif_orientation_is_honoured(saved):
    exif = pil.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    path = saved(pil.fromarray(gradient(48, 32)), "turned.jpg", exif=exif, quality=95)
    source = pictures.load_source(path, 32)
    assert source.upright.shape == (48, 32, 3)
    assert any("EXIF" in n for n in source.notes)


def test_a_panorama_is_edited_in_its_middle_and_says_so(saved):
    wide = pil.new("RGB", (12000, 100), (10, 200, 30))
    source = pictures.load_source(saved(wide), 32)
    assert source.box == (5950, 0, 100)
    assert any("12000 x 100" in n for n in source.notes)


def test_padding_takes_the_whole_picture(saved):
    source = pictures.load_source(saved(pil.fromarray(gradient())), 48, "pad")
    assert source.box == (0, -8, 48)
    np.testing.assert_array_equal(source.square[0, 0], source.square[0, 8])  # the edge goes on


def test_crops_that_mean_nothing_are_refused():
    assert pictures.choose_box("4,2,20", 48, 32) == (4, 2, 20)
    for crop in ("middle", "1,2", "1,2,x", "0,0,4", "40,0,32", "-1,0,20"):
        with pytest.raises(UserError, match="--crop"):
            pictures.choose_box(crop, 48, 32)


@pytest.mark.parametrize("crop", ["center", "4,2,20", "pad"])
def test_pasting_the_unedited_square_back_changes_nothing(saved, crop):
    plain = gradient()
    source = pictures.load_source(saved(pil.fromarray(plain)), 240, crop)
    whole = np.asarray(pictures.paste_back(source, source.square[0]))
    assert whole.shape == plain.shape
    assert np.abs(whole.astype(int) - plain).max() <= 3
    outside = np.ones(plain.shape[:2], bool)
    box = source.box
    outside[max(box.top, 0) : box.top + box.side, max(box.left, 0) : box.left + box.side] = False
    np.testing.assert_array_equal(whole[outside], plain[outside])


def test_eight_bit_pictures_survive_the_way_there_and_back():
    values = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2)
    back = pictures.to_pil(values.astype(np.float32) / 127.5 - 1.0)
    np.testing.assert_array_equal(np.asarray(back), values)
