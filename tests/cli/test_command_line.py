"""Help that reads well, and one clear sentence with exit code 2 for everything else."""

import os
import subprocess
import sys

import pytest
from PIL import Image as pil

from imagic_jax.cli import main


def test_help_pages_name_every_command_and_flag(imagic):
    code, out, _ = imagic("--help")
    assert code == 0
    for name in main.COMMANDS:
        assert f"  {name} " in out
        code, page, _ = imagic(name, "--help")
        assert code == 0
        assert page.startswith(f"imagic {name}: ")
        assert all(len(line) <= 120 for line in page.splitlines())
    _, page, _ = imagic("edit", "--help")
    for flag in ("image", "text", "eta", "seeds", "seed", "guidance", "steps", "negative", "size"):
        assert f"--{flag}=" in page
    for flag in ("crop", "out", "overwrite", "keep_checkpoints", "config", "quiet"):
        assert f"--{flag}" in page
    assert "config.embedding.steps = " in page


def test_version(imagic):
    code, out, _ = imagic("--version")
    assert code == 0
    assert out.startswith("imagic ")


@pytest.fixture
def files(tmp_path, picture):
    text = tmp_path / "text.png"
    text.write_text("no picture")
    half = tmp_path / "half.png"
    half.write_bytes(picture.read_bytes()[:150])
    dot = tmp_path / "dot.png"
    pil.new("RGB", (1, 1)).save(dot)
    return {"text": text, "half": half, "dot": dot, "good": picture, "folder": tmp_path}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["edti"], "did you mean edit"),
        (["edit", "--image=nothing.png", "--text=a dog"], "there is no file nothing.png"),
        (["edit", "--image={folder}", "--text=a dog"], "is a folder"),
        (["edit", "--image={text}", "--text=a dog"], "is no picture"),
        (["edit", "--image={half}", "--text=a dog"], "broken or cut off"),
        (["edit", "--image={dot}", "--text=a dog"], "1 x 1 pixels"),
        (["edit", "--image={good}"], "--text is missing"),
        (["edit", "--image={good}", "--text="], "--text is empty"),
        (["edit", "--image={good}", "--text=   "], "--text is empty"),
        (["edit", "--image={good}", "--text=a dog", "--eta=half"], "--eta must be a number"),
        (["edit", "--image={good}", "--text=a dog", "--eta=nan"], "--eta must be a finite number"),
        (["edit", "--image={good}", "--text=a dog", "--eta="], "--eta must name at least one"),
        (["edit", "--image={good}", "--text=a dog", "--steps=0"], "--steps must be a whole number"),
        (["edit", "--image={good}", "--text=a dog", "--steps=x"], "--steps must be a number"),
        (["edit", "--image={good}", "--text=a dog", "--seeds=1.5"], "--seeds must be a whole"),
        (["edit", "--image={good}", "--text=a dog", "--seed=-1"], "--seed must be a whole"),
        (["edit", "--image={good}", "--text=a dog", "--guidance=-1"], "must not be negative"),
        (["edit", "--image={good}", "--text=a dog", "--crop=left"], "--crop"),
        (["edit", "--image={good}", "--text=a dog", "--size=99"], "only works at 64 pixels"),
        (["edit", "--image={good}", "--text=a dog", "--out=/proc/x/y"], "cannot be written"),
        (["edit", "--image={good}", "--text=a dog", "--colour=red"], "colour"),
        (["edit", "--imgae={good}", "--text=a dog"], "Did you mean: image"),
        (["edit", "stray"], "stray"),
        (["edit", "--config=flatland_imagin"], "did you mean flatland_imagen"),
        (["edit", "--config.embeding.steps=5"], "did you mean config.embedding"),
        (["edit", "--config.embedding.steps=few"], "config.embedding.steps"),
        (["edit", "--config.tuning.base.batch=0", "--text=a dog", "--image={good}"], "batch"),
        (["render"], "--fit is missing"),
        (["sample"], "--text is missing"),
        (["evaluate", "--suite=beauty"], "--suite must be one of"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    imagic, preset, files, tmp_path, arguments, words
):
    before = {p.name for p in tmp_path.iterdir()}
    arguments = [a.format(**files) for a in arguments]
    if arguments[0] == "edit" and not any(a.startswith("--config=") for a in arguments):
        arguments.insert(1, f"--config={preset}")
    code, out, err = imagic(*arguments)
    assert code == 2
    assert out == ""
    line = err.strip()
    assert "\n" not in line, line
    assert line.startswith("imagic ")
    assert words in line
    assert "Traceback" not in line
    assert {p.name for p in tmp_path.iterdir()} == before


_STOPPED_WHILE_COMPILING = """
import sys, threading, time
import jax, jax.numpy as jnp
from imagic_jax.cli import main as program
from imagic_jax.runtime.ahead import Ahead

lowered = threading.Event()

def long(x):
    for _ in range(1500):
        x = jnp.sin(x @ x) + jnp.sort(x)
    return x

def lower():
    program = jax.jit(long).lower(jnp.ones((8, 8)))
    lowered.set()
    return program

def main(argv):
    with Ahead({"long": lower}):
        lowered.wait()
        time.sleep(0.5)
        print("stopped", file=sys.stderr)
        return 2

program.main = main
program.run()
"""


def test_a_program_that_stops_while_compiling_ends_with_its_code_and_no_more():
    ended = subprocess.run(
        [sys.executable, "-c", _STOPPED_WHILE_COMPILING],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (2, "stopped\n")


@pytest.mark.parametrize("flags", [["--help"], ["edit", "--help"]])
def test_a_reader_that_leaves_ends_the_program_quietly(flags):
    """What `imagic edit --help | head -1` is when `head` was faster."""
    reading, writing = os.pipe()
    os.close(reading)
    run = "from imagic_jax.cli.main import run; import sys; run()"
    ended = subprocess.run(
        [sys.executable, "-c", run, *flags], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (2, "")
