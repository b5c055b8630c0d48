"""Plain lines where the output is no terminal; warnings even when quiet."""

import pytest

from imagic_jax.runtime.progress import Reporter, in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (59.4, "59 s"),
        (60.0, "1 min 00 s"),
        (125.0, "2 min 05 s"),
        (4800.0, "1 h 20 min"),
    ],
)
def test_durations(seconds, words):
    assert in_words(seconds) == words


def test_lines_tell_loss_speed_and_time_left(capsys):
    with Reporter(every=0.0) as reporter:
        progress = reporter.stage("tuning base", 100, 10)
        progress.update(11, 1, 30.0, 0.5)  # compiling: no speed yet
        progress.update(31, 20, 2.0, 0.25)
        progress.update(100, 69, 6.9, 0.125)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "tuning base: 100 steps, 10 done before"
    assert lines[1].strip() == "tuning base: 11/100  loss 0.5000"
    assert lines[2].strip() == "tuning base: 31/100  loss 0.2500, 10.0 steps/s, 7 s left"
    assert lines[3].strip() == "tuning base: 100/100  loss 0.1250"


def test_an_update_without_steps_keeps_the_speed(capsys):
    with Reporter(every=0.0) as reporter:
        progress = reporter.stage("scoring", 100)
        for _ in range(2):
            progress.advance(0)
        progress.update(20, 20, 2.0)
        progress.update(20, 0, 0.0)
    assert capsys.readouterr().err.splitlines()[-1].endswith("20/100  10.0 steps/s, 8 s left")


def test_quiet_shows_warnings_only(capsys):
    with Reporter(quiet=True) as reporter:
        reporter.say("hello")
        reporter.stage("x", 3).update(1, 1, 1.0)
        reporter.warn("this is [bold]odd[/bold]")
    assert capsys.readouterr().err == "warning: this is [bold]odd[/bold]\n"
