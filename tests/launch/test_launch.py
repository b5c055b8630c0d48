"""launch/*.sh against a cloud that is a folder: every call, its quoting, and a preempted slice."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
HOSTILE = 'it\'s "two" words; $(touch owned) `touch owned` \\ * #\nand a line'
PYTHON = """#!/usr/bin/env bash
mkdir -p imagic_venv/bin
printf '#!/bin/sh\\nprintf "%%s\\\\n" "$@" >>"$HOME/pip_arguments"\\n' >imagic_venv/bin/pip
chmod +x imagic_venv/bin/pip
"""
#: Stops for ever in its first life, after leaving something to go on from.
JOB = 'if [ -f begun ]; then echo "$1" >result; else touch begun; /bin/sleep 600; fi'


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """The folder of the cloud, its programs on PATH."""
    programs, folder = tmp_path / "bin", tmp_path / "cloud"
    programs.mkdir()
    (folder / "gs").mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "fake_gcloud", programs / "gcloud")
    (programs / "sleep").write_text("#!/bin/sh\nexec /bin/sleep 0.05\n")
    (programs / "python3").write_text(PYTHON)
    for name in ("sky", "xpk"):
        shutil.copy(programs / "gcloud", programs / name)
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("CLOUD", str(folder))
    monkeypatch.setenv("TPU_WORKER_ID", "0")
    monkeypatch.chdir(tmp_path)
    return folder


def launch(script, *arguments):
    """(exit code, output, errors) of one call."""
    command = ["bash", str(LAUNCH / f"{script}.sh"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def calls(cloud):
    """The arguments of every recorded call."""
    words = (cloud / "calls").read_text().split("\0")[:-1] if (cloud / "calls").exists() else []
    found = []
    while words:
        count = int(words[0])
        found.append(words[1 : count + 1])
        words = words[count + 1 :]
    return found


SLICE = ("--name=mine", "--zone=us-central2-b", "--project=p", "--type=v4-8")


def test_create_asks_for_a_spot_slice_and_waits(cloud):
    code, _, err = launch("tpu", "create", *SLICE, "--spot", "--poll=0")
    assert code == 0, err
    create, describe = calls(cloud)
    assert create == [
        "compute", "tpus", "queued-resources", "create", "mine", "--node-id=mine",
        "--accelerator-type=v4-8", "--runtime-version=tpu-ubuntu2204-base", "--spot",
        "--zone=us-central2-b", "--project=p",
    ]  # fmt: skip
    assert describe[2:5] == ["queued-resources", "describe", "mine"]


@pytest.mark.parametrize(
    ("kind", "image"),
    [
        ("v5litepod-4", "v2-alpha-tpuv5-lite"),
        ("v5p-8", "v2-alpha-tpuv5"),
        ("v6e-4", "v2-alpha-tpuv6e"),
    ],
)
def test_each_generation_has_its_image(cloud, kind, image):
    _, out, _ = launch("tpu", "create", "--name=a", "--zone=z", f"--type={kind}", "--dry_run")
    assert f"--runtime-version={image}" in shlex.split(out)
    assert not calls(cloud)


def test_hostile_words_reach_the_program_as_they_are(cloud, tmp_path):
    launch("tpu", "create", *SLICE)
    launch("tpu", "install", *SLICE, "--source=git+https://example.org/x y")
    show = 'printf "%s\\0" "$@" >words; cat "$0" >/dev/null'
    code, _, err = launch(
        "tpu", "run", *SLICE, "--", "bash", "-c", show, "/dev/null", HOSTILE, "", "--text=a b"
    )
    assert code == 0, err
    home = cloud / "vm"
    wait_for(home / "imagic_run.exit")
    assert (home / "imagic_run" / "words").read_text().split("\0")[:-1] == [
        HOSTILE, "", "--text=a b",
    ]  # fmt: skip
    asked = (home / "pip_arguments").read_text().splitlines()
    assert "imagic-jax[tpu] @ git+https://example.org/x y" in asked
    assert not list(tmp_path.rglob("owned"))
    assert launch("tpu", "status", *SLICE)[1].splitlines()[-1] == "program: 0"


def wait_for(path, seconds=30):
    subprocess.run(
        ["bash", "-c", 'until [ -s "$0" ]; do /bin/sleep 0.05; done', str(path)],
        timeout=seconds,
        check=True,
    )


def test_a_preempted_slice_is_made_again_and_its_program_goes_on(cloud, tmp_path, monkeypatch):
    monkeypatch.setenv("SPOT", "1")
    code, _, err = launch(
        "tpu", "babysit", *SLICE, "--spot", "--bucket=gs://b/", "--poll=0", "--sync_every=1",
        "--out=results", "--source=git+https://x.org/x", "--", "sh", "-c", JOB, "job", HOSTILE,
    )  # fmt: skip
    assert code == 0, err
    verbs = [c[3] for c in calls(cloud) if c[2] == "queued-resources" and c[3] != "describe"]
    assert verbs == ["create", "delete", "create"]
    assert (tmp_path / "results" / "result").read_text() == HOSTILE + "\n"
    assert (tmp_path / "results" / "begun").exists()


def test_a_program_that_fails_is_not_started_again(cloud):
    code, _, err = launch(
        "tpu", "babysit", *SLICE, "--bucket=gs://b", "--poll=0", "--source=git+https://x.org/x",
        "--", "sh", "-c", "echo went wrong; exit 7",
    )  # fmt: skip
    assert code == 1
    assert "failed with exit code 7" in err
    assert "went wrong" in err  # the end of its output
    starts = [c for c in calls(cloud) if any(" start " in word for word in c)]
    assert len(starts) == 1


def test_delete_gives_the_slice_back(cloud):
    launch("tpu", "create", *SLICE)
    code, _, _ = launch("tpu", "delete", *SLICE)
    assert code == 0
    assert calls(cloud)[-1][2:] == [
        "queued-resources", "delete", "mine", "--force", "--quiet", "--zone=us-central2-b",
        "--project=p",
    ]  # fmt: skip


def test_logs_and_fetch_name_the_worker(cloud):
    _, out, _ = launch("tpu", "logs", *SLICE, "--worker=2", "--dry_run")
    assert "--worker=2" in shlex.split(out)
    assert "--command=tail -n +1 -F imagic_run.log" in shlex.split(out)
    _, out, _ = launch("tpu", "fetch", *SLICE, "--worker=2", "--out=a b", "--dry_run")
    assert shlex.split(out.splitlines()[0]) == ["mkdir", "-p", "a b"]
    assert "mine:imagic_run/." in shlex.split(out)
    _, out, _ = launch("tpu", "fetch", *SLICE, "--bucket=gs://b", "--dry_run")
    assert "gs://b/mine/worker-0/SLOT" in shlex.split(out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("frobnicate",), "there is no command 'frobnicate'"),
        (("create", "--zone=z", "--type=v4-8"), "--name=... is missing"),
        (("create", "--name", "--zone=z", "--type=v4-8"), "--name=... is missing"),
        (("create", "--name=a", "--zone=z", "--type=v4-8", "--poll=1m"), "--poll=1m"),
        (("create", "--name=My VM", "--zone=z", "--type=v4-8"), "--name=My VM"),
        (("create", "--name=a", "--zone=z", "--type=x9-8"), "give --runtime"),
        (("create", "--nmae=a"), "there is no flag --nmae"),
        (("create", "a"), "'a' is no flag"),
        (("run", "--name=a", "--zone=z"), "say what to run"),
        (("babysit", "--name=a", "--zone=z", "--type=v4-8", "--", "x"), "--bucket=... is missing"),
    ],
)
def test_mistakes_are_one_sentence_and_no_call(cloud, arguments, said):
    code, out, err = launch("tpu", *arguments)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1
    assert not out
    assert not calls(cloud)


def test_skypilot_gets_a_managed_job(cloud):
    yaml = pytest.importorskip("yaml")
    flags = ("--name=it's", "--type=tpu-v6e-4", "--infra=gcp", "--spot", "--bucket=gs://b")
    program = ("imagic", "edit", f"--text={HOSTILE}")
    code, out, err = launch("sky", "task", *flags, "--", *program)
    assert code == 0, err
    task = yaml.safe_load(out)
    assert task["name"] == "it's"
    assert task["resources"] == {"accelerators": "tpu-v6e-4", "use_spot": True, "infra": "gcp"}
    show = task["run"].replace("bash launch/worker.sh", "printf '%s\\0'")
    words = subprocess.run(["bash", "-c", show], capture_output=True, text=True).stdout.split("\0")
    assert words[:-1] == ["keep", "gs://b/it's", "120", *program]
    launch("sky", "run", *flags, "--", *program)
    assert calls(cloud)[-1][:4] == ["jobs", "launch", "--yes", "--name=it's"]


def test_xpk_gets_a_workload(cloud):
    flags = ("--cluster=c", "--name=n", "--type=v5litepod-16", "--zone=z", "--bucket=gs://b")
    code, _, err = launch("xpk", "run", *flags, "--", "imagic", "edit", f"--text={HOSTILE}")
    assert code == 0, err
    (call,) = calls(cloud)
    assert call[:4] == ["workload", "create", "--workload=n", "--tpu-type=v5litepod-16"]
    command = next(w for w in call if w.startswith("--command=")).removeprefix("--command=")
    show = command.split(" && ", 1)[1].replace("bash launch/worker.sh", "printf '%s\\0'")
    words = subprocess.run(["bash", "-c", show], capture_output=True, text=True).stdout.split("\0")
    assert words[:-1] == ["keep", "gs://b/n", "120", "imagic", "edit", f"--text={HOSTILE}"]
    assert call[-2:] == ["--cluster=c", "--zone=z"]


@pytest.mark.parametrize("script", ["tpu", "sky", "xpk"])
def test_help_names_every_flag(script):
    text = (LAUNCH / f"{script}.sh").read_text()
    known = text.split("flags='")[1].split("'")[0].split()
    code, out, _ = launch(script, "help")
    assert code == 0
    assert [f for f in known if f"--{f}" not in out] == []


def test_shellcheck_finds_nothing():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    scripts = sorted(str(p) for p in LAUNCH.glob("*.sh"))
    done = subprocess.run(
        ["shellcheck", "-x", *scripts], cwd=LAUNCH, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
