"""`imagic edit --method`, `methods` and `compare` from files to folders, on the tiny cascade."""

import json
import os
import re
import signal

import numpy as np
import pytest
import standalone
from PIL import Image as pil

from imagic_jax.editors.methods import METHODS
from imagic_jax.runtime.progress import StageProgress

TEXT = "a sitting dog"


@pytest.fixture
def flags(preset, picture):
    return (f"--config={preset}", f"--image={picture}", f"--text={TEXT}")


@pytest.fixture
def mask(tmp_path):
    values = np.zeros((80, 100), np.uint8)
    values[20:60, 30:70] = 255
    path = tmp_path / "mask.png"
    pil.fromarray(values).save(path)
    return path


def pixels(path):
    return np.asarray(pil.open(path).convert("RGB"))


def test_a_method_leaves_what_imagic_leaves_and_render_draws_it_again(imagic, flags, tmp_path):
    given = (*flags, "--method=ddpm-inversion", "--source_text=a dog", "--strength=0.4,1")
    code, out, err = imagic("edit", *given, "--out=o", "--seeds=0,1", "--paste_back")
    assert code == 0, err
    folder = tmp_path / "o"
    edited = {f"edited_strength{s}_seed{n}.png" for s in ("0.4", "1") for n in (0, 1)}
    pasted = {n.replace("edited", "pasted") for n in edited}
    other = {"fit", "index.html", "input.png", "job.json", "result.json", "strip.png"}
    assert {p.name for p in folder.iterdir()} == edited | pasted | other
    result = json.loads((folder / "result.json").read_text())
    assert result["method"] == "ddpm_inversion"
    assert (result["knob"], result["strengths"]) == ("strength", [0.4, 1.0])
    assert result["source_text"] == "a dog"
    assert result["method_settings"]["source_guidance"] == 3.5
    assert result["evaluations"] == {"fit": 6, "render": [2, 6]}
    assert {r["file"] for r in result["outputs"]} == edited
    assert all(np.isfinite(r["input_psnr"]) for r in result["outputs"])
    names = [t["name"] for t in result["timings"]["stages"]]
    assert names == ["inverting", "rendering"]
    assert "by strength: " in out
    page = (folder / "index.html").read_text()
    assert "Huberman-Spiegelglas" in page
    assert "imagic render --fit=o/fit --strength=" in page
    for name in edited:
        assert pixels(folder / name).shape == (64, 64, 3)

    code, _, err = imagic("render", "--fit=o/fit", "--strength=1", "--seeds=1,2", "--out=r")
    assert code == 0, err
    assert "inverting" not in err
    same = "edited_strength1_seed1.png"
    np.testing.assert_array_equal(pixels(tmp_path / "r" / same), pixels(folder / same))
    code, _, err = imagic("render", "--fit=o/fit", "--steps=5", "--out=r2")
    assert code == 2
    assert "inverted in 3 steps" in err
    for refused, words in (
        (("render", "--fit=o/fit", "--eta=1"), "--eta is Imagic's"),
        (("convert", "--fit=o/fit", "--to=c"), "which tunes no model"),
        (("edit", *flags, "--method=sdedit", "--out=o"), "another job (different: method"),
    ):
        code, _, err = imagic(*refused)
        assert code == 2
        assert words in err


def test_fits_of_methods_that_are_cut_off_or_of_other_weights_are_refused(imagic, flags, tmp_path):
    given = (*flags, "--method=ddim_inversion", "--out=o", "--quiet")
    assert imagic("edit", *given)[0] == 0
    about = tmp_path / "o" / "fit" / "fit.json"
    whole = about.read_text()
    about.write_text(re.sub(r'"weights": "\w+"', '"weights": "0123"', whole))
    code, _, err = imagic("render", "--fit=o/fit", "--out=r")
    assert (code, "on other weights" in err) == (2, True)
    about.write_text(whole)
    arrays = tmp_path / "o" / "fit" / "arrays"
    largest = max((p for p in arrays.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    code, _, err = imagic("render", "--fit=o/fit", "--out=r")
    assert (code, "broken or cut off" in err) == (2, True)
    assert not (tmp_path / "r").exists()


def test_masked_edits_keep_what_is_outside_to_the_bit(imagic, flags, mask, tmp_path):
    given = (*flags, "--method=blended_latent", f"--mask={mask}")
    code, _, err = imagic("edit", *given, "--out=o", "--strength=0.7")
    assert code == 0, err
    folder = tmp_path / "o"
    drawn, shown = (pixels(folder / n) for n in ("edited_strength0.7_seed0.png", "mask.png"))
    outside = shown[..., 0] == 0
    np.testing.assert_array_equal(drawn[outside], pixels(folder / "input.png")[outside])
    assert np.abs(drawn[~outside].astype(int) - pixels(folder / "input.png")[~outside]).max() > 9
    code, _, err = imagic("edit", *given, "--out=o", "--strength=0.7", "--invert_mask")
    assert code == 2
    assert "different: mask" in err
    assert imagic("render", "--fit=o/fit", "--out=r", "--quiet")[0] == 0
    assert (tmp_path / "r" / "mask.png").is_file()


def test_imagics_own_strength_is_eta(imagic, flags, tmp_path):
    code, _, err = imagic("edit", *flags, "--method=imagic", "--strength=0.25", "--out=o")
    assert code == 0, err
    assert (tmp_path / "o" / "edited_eta0.25_seed0.png").is_file()
    assert "method" not in json.loads((tmp_path / "o" / "job.json").read_text())


def test_settings_of_a_method_are_flags(imagic, flags, tmp_path):
    code, _, err = imagic(
        "edit", *flags, "--method=sdedit", "--config.methods.sdedit.strength=0.9", "--out=o"
    )
    assert code == 0, err
    assert (tmp_path / "o" / "edited_strength0.9_seed0.png").is_file()


def test_an_interrupted_method_goes_on(imagic, flags, tmp_path, monkeypatch):
    given = (*flags, "--method=ddim_inversion", "--strength=0.5,1", "--out=o")
    real = StageProgress.update

    def stop_in_the_middle(self, done, *arguments):
        real(self, done, *arguments)
        if self._name == "rendering" and done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(StageProgress, "update", stop_in_the_middle)
        code, _, err = imagic("edit", *given)
    assert code == 2
    assert "stopped after 1 of 6 parts of rendering" in err
    assert not (tmp_path / "o" / "result.json").exists()
    code, _, err = imagic("edit", *given)
    assert code == 0
    assert "fitted already" in err
    assert "inverting" not in err


def test_comparing_makes_one_page_and_keeps_what_is_finished(imagic, flags, mask, tmp_path):
    names = "sdedit,ddim_inversion,blended_latent"
    given = (f"--methods={names}", *flags, "--source_text=a dog", f"--mask={mask}", "--sweep=2")
    code, out, err = imagic("compare", *given, "--out=c")
    assert code == 0, err
    assert "look at c/index.html" in out
    folder = tmp_path / "c"
    page = (folder / "index.html").read_text()
    sources = standalone.check(folder / "index.html")
    drawn = [s for s in sources if s.startswith("data:image/png;base64,")]
    assert len(drawn) == 2 + 3 * 2  # input, mask, and two strengths of each method
    links = set(sources) - set(drawn)
    assert links == {f"01-me/{name}/index.html" for name in names.split(",")}
    for name in names.split(","):
        assert METHODS[name].title in page
        assert METHODS[name].paper in page
        assert (folder / "01-me" / name / "result.json").is_file()
    told = json.loads((folder / "compare.json").read_text())
    (picture,) = told["pictures"]
    assert picture["mask"] == "mask.png"
    masked = picture["methods"]["blended_latent"]
    assert masked["used"] == ["mask"]
    assert all(s["outside_psnr"] == 100 for s in masked["shown"])
    assert picture["methods"]["sdedit"]["used"] == []
    assert picture["methods"]["ddim_inversion"]["used"] == ["source text"]

    times = {p: p.stat().st_mtime_ns for p in folder.glob("01-me/*/result.json")}
    code, _, err = imagic("compare", *given, "--out=c")
    assert code == 0, err
    assert "rendering" not in err
    assert times == {p: p.stat().st_mtime_ns for p in times}


@pytest.mark.slow
def test_a_concept_may_be_each_pictures_own_text(imagic, preset, picture, tmp_path):
    given = [f"--image={picture}", "--text=a dog", f"--image={picture}", "--text=a red cat"]
    line = ["compare", f"--config={preset}", *given, "--methods=ledits_pp", "--sweep=1", "--out=c"]
    code, _, err = imagic(*line, "--concept=+{text}:threshold=.5")
    assert code == 0, err
    told = [
        json.loads(p.read_text())["concepts"]
        for p in sorted((tmp_path / "c").glob("*/ledits_pp/result.json"))
    ]
    assert told == [["+a dog:threshold=0.5"], ["+a red cat:threshold=0.5"]]


def test_methods_are_listed_with_needs_costs_and_presets(imagic, preset):
    code, out, err = imagic("methods", f"--config={preset}")
    assert code == 0, err
    for name, method in METHODS.items():
        assert f"{name}: {method.title} ({method.paper})" in out
    assert "imagic: Imagic (Kawar et al. 2023" in out
    assert "a mask (--mask)" in out
    assert "model evaluations per picture (base stage of tiny_preset)" in out
    code, out, _ = imagic("methods", f"--config={preset}", "--method=ddpm_inversion")
    assert code == 0
    assert "--config.methods.ddpm_inversion.source_guidance=3.5" in out
    code, out, _ = imagic("methods", f"--config={preset}", "--json")
    rows = {r["name"]: r for r in json.loads(out)}
    assert set(rows) == {"imagic", *METHODS}
    assert rows["ddpm_inversion"]["cost"] == {"fit": 6, "render": 2}
    # 24 draws with a gradient; two of the three steps, as drawing starts from the picture
    assert rows["imagic"]["cost"] == {"fit": 72, "render": 4}
    assert "no CLIP model comes with them" in rows["blended"]["refused"]["sd15"]
    assert "flatland_sd" not in rows["blended"]["refused"]
    assert "sd15" not in rows["blended_latent"]["refused"]  # takes one, and can do without


@pytest.fixture
def files(picture, mask, tmp_path):
    black = tmp_path / "black.png"
    pil.new("L", (100, 80)).save(black)
    return {"good": picture, "mask": mask, "black": black}


METHOD = ["edit", "--image={good}", "--text=a dog"]
COMPARE = ["compare", "--image={good}", "--text=a dog"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*METHOD, "--method=sdedti"], "did you mean sdedit"),
        ([*METHOD, "--method="], "known: imagic"),
        ([*METHOD, "--method=sdedit", "--strength=1.2"], "0..1, got 1.2"),
        ([*METHOD, "--method=ddim_inversion", "--strength=-0.1"], "0..1, got -0.1"),
        ([*METHOD, "--method=prompt_to_prompt", "--source_text=a cat", "--strength=2"], "0..1"),
        ([*METHOD, "--method=sdedit", "--strength=much"], "--strength must be a number"),
        ([*METHOD, "--method=sdedit", "--strength="], "--strength must name at least one"),
        ([*METHOD, "--method=sdedit", "--eta=1"], "--eta is Imagic's"),
        ([*METHOD, "--eta=1", "--strength=1"], "give one of them"),
        ([*METHOD, "--method=ddib"], "--source_text: a text that is true of the picture"),
        ([*METHOD, "--method=ddib", "--source_text= "], "--source_text is empty"),
        ([*METHOD, "--method=sdedit", "--source_text=a cat"], "sdedit has no use for it"),
        ([*METHOD, "--source_text=a cat"], "imagic has no use for it"),
        ([*METHOD, "--method=blended_latent"], "needs --mask"),
        ([*METHOD, "--method=blended_latent", "--mask=no.png"], "there is no file no.png"),
        ([*METHOD, "--method=blended_latent", "--mask={black}"], "nothing may change"),
        ([*METHOD, "--method=blended_latent", "--mask={mask}", "--feather=-1"], "--feather"),
        ([*METHOD, "--method=sdedit", "--invert_mask"], "there is no --mask"),
        ([*METHOD, "--method=sdedit", "--concept=+"], "names nothing"),
        ([*METHOD, "--method=blended", "--mask={mask}"], "needs a CLIP model"),
        ([*METHOD, "--method=blended", "--mask={mask}", "--clip=none"], "no folder with a CLIP"),
        (
            [*METHOD, "--method=prompt_to_prompt", "--source_text=a cat", "--emphasis=wolf=2"],
            "no word 'wolf'",
        ),
        (
            [*METHOD, "--method=guide_and_rescale", "--source_text=a cat", "--guidance=1"],
            "give the base stage a guidance above 1",
        ),
        (
            [*METHOD, "--method=null_text", "--source_text=a cat", "--guidance=1"],
            "is about guidance",
        ),
        (
            [
                *METHOD,
                "--method=blended_latent",
                "--mask={mask}",
                "--config.methods.blended_latent.candidates=2",
            ],
            "ranked by a CLIP model",
        ),
        ([*METHOD, "--method=sdedit", "--config.methods.sdedti.strength=1"], "methods.sdedit"),
        (
            [*METHOD, "--method=sdedit", "--config.methods.sdedit.strenght=1"],
            "did you mean config.methods.sdedit.strength",
        ),
        ([*METHOD, "--method=sdedit", "--config.methods.sdedit.strength=x"], "strength"),
        (
            [*METHOD, "--method=ddim_inversion", "--config.methods.ddim_inversion.convention=up"],
            "must be one of destination, origin",
        ),
        (["methods", "--method=sdedti"], "did you mean sdedit"),
        ([*COMPARE, "--methods=imagic,sdedti"], "did you mean sdedit"),
        ([*COMPARE, "--methods=sdedit,ddib"], "ddib needs --source_text"),
        ([*COMPARE, "--methods=blended", "--mask={mask}"], "needs a CLIP model"),
        ([*COMPARE, "--text=a cat"], "--text is given 2 times for 1 pictures"),
        (["compare", "--image={good}"], "--text is given 0 times for 1 pictures"),
        ([*COMPARE, "--sweep=0"], "--sweep must be a whole number from 1"),
        ([*COMPARE, "--methods="], "--methods must name at least one"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    imagic, preset, files, tmp_path, arguments, words
):
    before = {p.name for p in tmp_path.iterdir()}
    arguments = [a.format(**files) for a in arguments]
    code, out, err = imagic(arguments[0], f"--config={preset}", *arguments[1:])
    assert code == 2
    assert out == ""
    # What only shows when picture or texts are read comes after a line that says what is edited.
    lines = [line for line in err.strip().splitlines() if not line.startswith("editing ")]
    assert len(lines) == 1, err
    assert lines[0].startswith("imagic ")
    assert words in lines[0]
    assert {p.name for p in tmp_path.iterdir()} == before
