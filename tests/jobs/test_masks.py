"""Masks of any kind are laid over the edited square, or refused in one sentence."""

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image as pil

from imagic_jax.errors import UserError
from imagic_jax.flatland import factors as fx
from imagic_jax.flatland import masks as flatland
from imagic_jax.flatland import nuisance
from imagic_jax.flatland.free_reader import FreeReading
from imagic_jax.flatland.reader import render_list
from imagic_jax.jobs import pictures
from imagic_jax.jobs.masks import MaskSource

WIDE = pil.new("RGB", (48, 32), (10, 200, 30))


@pytest.fixture
def saved(tmp_path):
    def save(picture, name="m.png", **options):
        path = tmp_path / name
        picture.save(path, **options)
        return str(path)

    return save


def left_half(width=48, height=32, white=255):
    values = np.zeros((height, width), np.uint8)
    values[:, : width // 2] = white
    return pil.fromarray(values)


def source(saved, crop="center", size=32, **options):
    return pictures.load_source(saved(WIDE, "p.png", **options), size, crop)


def test_a_mask_is_cut_as_the_picture_is(saved):
    mask, notes = MaskSource(name=saved(left_half())).load(source(saved), "")
    assert notes == []
    expected = np.zeros((32, 32), np.float32)
    expected[:, :16] = 1  # the box begins at 8 of 48, and white ends at 24
    np.testing.assert_array_equal(mask, expected)
    mask, _ = MaskSource(name=saved(left_half())).load(source(saved, "0,0,16", 16), "")
    assert mask.min() == 1


def test_another_size_is_resized_and_said(saved):
    wide = MaskSource(name=saved(left_half(96, 64))).load(source(saved), "")
    same, _ = MaskSource(name=saved(left_half())).load(source(saved), "")
    np.testing.assert_array_equal(wide[0], same)
    assert wide[1] == ["the mask is 96 x 64 and the picture 48 x 32: the mask was resized to fit"]
    _, notes = MaskSource(name=saved(left_half(64, 64))).load(source(saved), "")
    assert "stretched" in notes[0]


def test_exif_turns_the_mask_as_the_picture(saved):
    exif = pil.Exif()
    exif[0x0112] = 3  # upside down
    turned = MaskSource(name=saved(left_half(), exif=exif)).load(source(saved), "")[0]
    plain = MaskSource(name=saved(left_half())).load(source(saved), "")[0]
    np.testing.assert_array_equal(turned, plain[::-1, ::-1])


def test_label_maps_and_transparency(saved):
    plain = MaskSource(name=saved(left_half())).load(source(saved), "")[0]
    dim, notes = MaskSource(name=saved(left_half(white=1))).load(source(saved), "")
    np.testing.assert_array_equal(dim, plain)
    assert "brightest value is 1 of 255" in notes[0]
    rgba = pil.new("RGBA", (48, 32), (255, 255, 255, 255))
    rgba.putalpha(left_half())
    np.testing.assert_array_equal(MaskSource(name=saved(rgba)).load(source(saved), "")[0], plain)


def test_inverting_and_feathering(saved):
    name = saved(left_half())
    plain = MaskSource(name=name).load(source(saved), "")[0]
    inverted = MaskSource(name=name, invert=True).load(source(saved), "")[0]
    np.testing.assert_array_equal(inverted, 1 - plain)
    soft = MaskSource(name=name, feather=2.0).load(source(saved), "")[0]
    assert 0.3 < soft[16, 15] < 0.7 or 0.3 < soft[16, 16] < 0.7
    assert np.all(np.diff(soft[16]) <= 0)
    ways = [(i, f) for i in (False, True) for f in (0.0, 2.0)]
    digests = {MaskSource(name=name, invert=i, feather=f).digest() for i, f in ways}
    assert len(digests) == 4


def test_empty_and_full_masks(saved):
    black = saved(pil.new("L", (48, 32)), "black.png")
    with pytest.raises(UserError, match="is black all over the edited square") as caught:
        MaskSource(name=black).load(source(saved), "")
    assert "--invert_mask" in str(caught.value)
    mask, notes = MaskSource(name=black, invert=True).load(source(saved), "")
    assert mask.min() == 1
    assert "covers the whole edited square" in notes[0]
    with pytest.raises(UserError, match="is black all over"):  # white, but outside of the square
        MaskSource(name=saved(left_half())).load(source(saved, "30,0,16"), "")


def test_files_that_are_no_masks_are_refused_by_name(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no picture")
    for name, words in (
        (tmp_path / "nothing.png", "there is no file"),
        (tmp_path, "is a folder"),
        ("flatland:bird", "flatland:subject"),
    ):
        with pytest.raises(UserError, match="--mask") as caught:
            MaskSource(name=str(name))
        assert words in str(caught.value)


@pytest.mark.slow  # it reads the whole scene
def test_the_mark_of_the_shipped_bird_does_not_hide_what_it_is():
    shown = pictures.load_source(Path(__file__).parents[2] / "examples" / "bird.png", 64)
    wings, _ = MaskSource(name="flatland:change").load(shown, "a bird spreading its wings")
    body, _ = MaskSource(name="flatland:change").load(shown, "a blue bird")
    assert 0.1 < wings.mean() < 0.4
    assert 0.1 < body.mean() < 0.4
    cells = (slice(36, 38), slice(28, 31))  # the middle of the mark, at 64 pixels
    assert body[cells].max() == 0  # another colour leaves it alone


def test_masks_drawn_from_what_a_flatland_picture_shows(saved, monkeypatch):
    f, u = fx.make(cls="bird", colour="red"), nuisance.sample(jax.random.key(1))
    array = np.uint8(np.round(render_list([f], u, 64)[0] * 255))
    shown = pictures.load_source(saved(pil.fromarray(array), "f.png"), 64)
    monkeypatch.setattr(flatland, "read", lambda picture: FreeReading(f, u, 0.0))
    mask, notes = MaskSource(name="flatland:subject").load(shown, "a blue bird")
    assert notes == []
    np.testing.assert_array_equal(mask, flatland.subject_mask(f, u, 64))
    change, _ = MaskSource(name="flatland:change").load(shown, "a blue bird")
    assert np.all(change <= mask)  # another colour changes nothing but the bird
    assert 0 < change.mean() < 0.5
    with pytest.raises(UserError, match="is true of this picture already"):
        MaskSource(name="flatland:change").load(shown, "a red bird")
    monkeypatch.setattr(flatland, "read", lambda picture: None)
    with pytest.raises(UserError, match="no Flatland picture"):
        MaskSource(name="flatland:subject").load(shown, "")
