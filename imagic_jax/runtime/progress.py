"""Progress for people: a rich bar per stage in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from imagic_jax.runtime.observers import Observer


def in_words(seconds: float) -> str:
    """A duration as people say it: "8 s", "2 min 05 s", "1 h 20 min"."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


class _Facts(ProgressColumn):
    """Loss, speed and time left of a task, as its fields say."""

    def render(self, task: Task) -> Text:
        return Text(task.fields.get("facts", ""), style="dim")


class Reporter:
    """Shows where a long job is. Use as a context manager; one `stage` after the other.

    Args:
        quiet: show warnings only.
        every: seconds between plain lines where the output is no terminal.
        observers: told of every chunk of steps, and closed at the end.
    """

    def __init__(self, quiet: bool = False, every: float = 5.0, observers: Sequence[Observer] = ()):
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet, self._every = quiet, every
        self._observers = tuple(observers)
        self._bars: Progress | None = None
        if not quiet and self.console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description:<26}"),
                BarColumn(bar_width=30),
                TextColumn("{task.completed:>5.0f}/{task.total:.0f}"),
                _Facts(),
                console=self.console,
            )

    def __enter__(self) -> "Reporter":
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars:
            self._bars.stop()
        for observer in self._observers:
            for line in observer.close():
                self.say(line)

    def say(self, text: str, style: str = "") -> None:
        """One line for the reader."""
        if not self._quiet:
            self.console.print(text, style=style, markup=False)

    def warn(self, text: str) -> None:
        """One line that is shown even when quiet."""
        self.console.print(f"warning: {text}", style="yellow", markup=False)

    def clear_stages(self, keep: "StageProgress") -> None:
        """Takes the bars of all other stages away, where there are bars."""
        if self._bars:
            for task in self._bars.task_ids:
                if task != keep._task:
                    self._bars.remove_task(task)

    def stage(self, name: str, total: int, done: int = 0) -> "StageProgress":
        """Begins a stage of `total` steps, of which `done` are done already."""
        return StageProgress(self, name, total, done)


class StageProgress:
    """The progress of one stage; see `Reporter.stage`."""

    def __init__(self, reporter: Reporter, name: str, total: int, done: int):
        self._reporter, self._name, self._total = reporter, name, total
        self._bars = reporter._bars
        self._rate: float | None = None
        self._warm = False
        self._done, self._since = done, time.monotonic()
        self._spoke = 0.0
        if self._bars:
            self._task = self._bars.add_task(name, total=total, completed=done, facts="compiling")
        else:
            resumed = f", {done} done before" if done else ""
            reporter.say(f"{name}: {total} steps{resumed}")

    def advance(self, done: int) -> None:
        """`update` with the time since the last call, for work that measures nothing itself."""
        now = time.monotonic()
        self.update(done, done - self._done, now - self._since)

    def update(self, done: int, steps: int, seconds: float, loss: float | None = None) -> None:
        """Tells that `steps` more steps took `seconds`; `done` in all."""
        for observer in self._reporter._observers:
            observer.update(self._name, done, steps, seconds, loss)
        self._done, self._since = done, time.monotonic()
        if self._warm and steps:  # the first update is mostly compilation: no speed
            self._rate = steps / max(seconds, 1e-6)
        self._warm = True
        facts = [] if loss is None else [f"loss {loss:.4f}"]
        if self._rate is not None and done < self._total:
            speed = self._rate
            facts.append(f"{speed:.1f} steps/s" if speed >= 1 else f"{1 / speed:.1f} s/step")
            facts.append(f"{in_words((self._total - done) / speed)} left")
        line = ", ".join(facts)
        if self._bars:
            self._bars.update(self._task, completed=done, facts=line)
            return
        now = time.monotonic()
        if done == self._total or now - self._spoke >= self._reporter._every:
            self._spoke = now
            self._reporter.say(f"  {self._name}: {done}/{self._total}  {line}".rstrip())
            sys.stderr.flush()
