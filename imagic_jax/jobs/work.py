"""What an edit's job asks of an editor: the seam between files and progress, and the methods.

`jobs.edit` owns pictures, folders, saved fits and reports; a `Work` owns what its editor computes.
There are two: `imagic_work.ImagicWork`, whose loops save and go on, and `method_work.MethodWork`
for every `editors.contracts.Method`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from imagic_jax.backbones.contracts import Cascade, Cond
from imagic_jax.backbones.registry import Opened
from imagic_jax.jobs.pictures import Source
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.jobs.timing import StageTime
from imagic_jax.runtime.ahead import Ahead
from imagic_jax.runtime.interrupt import StopFlag
from imagic_jax.runtime.paths import AnyPath
from imagic_jax.runtime.progress import Reporter
from imagic_jax.typing import Image, Params

Sweep = Float[np.ndarray, "strengths seeds h w 3"]  # pictures in [-1, 1]


class Given(NamedTuple):
    """What is edited: the model, the picture, and the texts as the stages read them."""

    cascade: Cascade
    params: Params  # {"stages": ...}
    image: Image  # (1, S, S, 3) in [-1, 1]
    target: tuple[Cond, ...]
    null: tuple[Cond, ...]  # the empty text
    texts: tuple[tuple[Cond, ...], ...]  # `Work.texts`


class Watch(NamedTuple):
    """Who is told how far it is, and who says stop."""

    ahead: Ahead
    reporter: Reporter
    stop: StopFlag


@runtime_checkable
class Work(Protocol):
    """One editor with its settings."""

    @property
    def name(self) -> str: ...
    @property
    def knob(self) -> str:
        """What the amount of the edit is called: "eta", "strength", "skip"."""
        ...

    @property
    def strengths(self) -> tuple[int | float, ...]:
        """The amounts of the edit that are drawn."""
        ...

    @property
    def settings(self) -> EditSettings: ...
    @property
    def texts(self) -> tuple[str, ...]:
        """Texts that it reads besides the target and the empty one."""
        ...

    @property
    def headline(self) -> str:
        """A sentence or two for the head of the page."""
        ...

    @property
    def again(self) -> str:
        """Flags that draw a fit at other amounts, as an example."""
        ...

    def mask(self, fit: Any) -> Float[np.ndarray, "s s"] | None:
        """The mask that was given, 1 where the edit may happen."""
        ...

    def on(self, source: Source, text: str) -> tuple["Work", list[str]]:
        """The same for one picture and text, and notes: reads the mask that belongs to it."""
        ...

    def check(self, opened: Opened) -> None:
        """Refuses what cannot work, before anything is written (`UserError`)."""
        ...

    def memory_settings(self) -> EditSettings:
        """What `memory.estimate` shall count."""
        ...

    def decides(self, cascade: Cascade) -> dict[str, Any]:
        """What decides the fit besides picture, text, weights and seed; JSON values."""
        ...

    def programs(
        self, cascade: Cascade, params: Params, target: Sequence[Cond], *, fitting: bool
    ) -> Mapping[str, Callable[[], Any]]:
        """Programs to compile ahead, first needed first; those of the fit where `fitting`."""
        ...

    def target(self, fit: Any) -> tuple[Cond, ...]:
        """The target text that a fit holds."""
        ...

    def fit(self, given: Given, folder: AnyPath, watch: Watch) -> tuple[Any, list[StageTime]]:
        """Fits; `folder` may hold checkpoints (`Interrupted`, `NonFiniteLoss`)."""
        ...

    def unfamiliar(self, card: Mapping[str, Any], times: Sequence[StageTime]) -> str:
        """A warning if the model has never seen such pictures, else ""."""
        ...

    def draw(
        self,
        cascade: Cascade,
        params: Params,
        fit: Any,
        away: tuple[Cond, ...] | None,
        square: Float[np.ndarray, "s s 3"],
        watch: Watch,
    ) -> tuple[Sweep, dict[str, Any], list[StageTime]]:
        """The pictures, what result.json says of them, and the time they took.

        Args:
            cascade, params, fit: the model and what was fitted.
            away: the text to be guided away from; None is the empty one, which the fit holds.
            square: the picture as the model saw it.
            watch: see `Watch`.
        """
        ...

    def weaknesses(self, result: Mapping[str, Any], drawn: Sweep) -> list[str]:
        """Warnings about a result, each with the knob to turn."""
        ...

    def numbers(self, result: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Its own rows of the page's table."""
        ...
