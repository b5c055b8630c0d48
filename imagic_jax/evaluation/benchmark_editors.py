"""Editing methods as a benchmark runs them: opened once, then asked item after item.

Texts are encoded first and the text encoder is dropped, weights are loaded once, programs compile
once. Imagic gets the picture and the target text. Other methods get what they need of what the
benchmark gives: a source text where they use one; a mask only where they cannot do without.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from imagic_jax.backbones.contracts import Cond
from imagic_jax.backbones.generate import drawing_programs
from imagic_jax.backbones.registry import Opened
from imagic_jax.editors import imagic
from imagic_jax.editors.contracts import Inputs, Method, enlarge
from imagic_jax.editors.methods import METHODS
from imagic_jax.errors import UserError
from imagic_jax.evaluation.edit_items import EditItem
from imagic_jax.jobs.edit import check_tuning, encode_texts
from imagic_jax.jobs.fitting import run_fit
from imagic_jax.jobs.pictures import Source
from imagic_jax.jobs.rendering import draw
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.runtime.ahead import Ahead
from imagic_jax.runtime.interrupt import StopFlag
from imagic_jax.runtime.progress import Reporter

IMAGIC = "imagic"
#: What a benchmark can give besides picture and target text; the rest is the model's own.
_GIVEN = frozenset({"source text", "mask"})
_OF_THE_MODEL = frozenset({"gradients", "attention"})


class Variant(NamedTuple):
    """One way in which a method draws its result."""

    knob: str  # "eta", or what the method calls the amount of its edit
    amount: float
    seed: int

    @property
    def folder(self) -> str:
        return f"{self.knob}{self.amount:g}-seed{self.seed}"


@runtime_checkable
class Editor(Protocol):
    """A method, opened on a model and for a list of items."""

    variants: tuple[Variant, ...]

    def edit(self, item: EditItem, source: Source, work: Path) -> Float[np.ndarray, "v h w 3"]:
        """Results in [-1, 1], one per variant; `work` may hold what a stopped run left.

        Raises:
            NonFiniteLoss: the optimisation diverged.
            Interrupted: a stop was asked for; `work` holds the state.
        """
        ...


def names() -> tuple[str, ...]:
    """Every method that can run, Imagic first."""
    return (IMAGIC, *METHODS)


def decides(method: str, settings: EditSettings) -> dict[str, Any]:
    """What decides a method's pictures, besides model and data."""
    if method == IMAGIC:
        return dataclasses.asdict(settings)
    return {
        "config": dataclasses.asdict(METHODS[method].config()),
        "sampling": dataclasses.asdict(settings.sampling),
        "seeds": settings.seeds,
        "seed": settings.seed,
    }


def extras(method: str, items: Sequence[EditItem]) -> list[str]:
    """What a method is given of `items` besides picture and target text.

    Raises:
        UserError: it needs something that an item lacks.
    """
    if method == IMAGIC:
        return []
    about = METHODS[method]
    for need in sorted(about.needs - _OF_THE_MODEL):
        lacking = [i.id for i in items if not _has(i, need)]
        if lacking:
            raise UserError(
                f"--methods: {method} needs a {need}, which {len(lacking)} of {len(items)} items"
                f" do not give ({lacking[0]})"
            )
    used = about.needs | (about.takes - {"mask"})
    return [n for n in sorted(used & _GIVEN) if any(_has(i, n) for i in items)]


def _has(item: EditItem, need: str) -> bool:
    if need == "mask":
        return item.mask is not None
    return need == "source text" and bool(item.source_text)


class _Texts:
    """All texts of a run, each encoded once."""

    def __init__(self, opened: Opened, texts: Sequence[str | None]):
        known = list(dict.fromkeys(t for t in texts if t))
        self.null, *conds = encode_texts(opened, ["", *known])
        self._conds = dict(zip(known, conds, strict=True))

    def __getitem__(self, text: str) -> tuple[Cond, ...]:
        return self._conds[text]

    def any(self) -> tuple[Cond, ...]:
        """One of them: all are alike in shape."""
        return next(iter(self._conds.values()))


class Imagic:
    """`editors.imagic`; its loops go on from the checkpoints in `work`."""

    def __init__(
        self, opened: Opened, settings: EditSettings, items: Sequence[EditItem], stop: StopFlag
    ):
        self._cascade, self._settings, self._stop = opened.cascade, settings, stop
        self.variants = _variants("eta", settings.etas, settings.seeds)
        self._texts = _Texts(opened, [i.target_text for i in items])
        self._params = {"stages": opened.load_stages()}
        self._quiet = Reporter(quiet=True)

    @contextlib.contextmanager
    def compiled(self) -> Iterator["Imagic"]:
        """Compiles all programs beside the first item's work."""
        s, model, like = self._settings, (self._cascade, self._params), self._texts.any()
        fitting = imagic.fitting_programs(*model, like, s.embedding, s.tuning)
        drawing = drawing_programs(self._cascade, self._params["stages"], like, s.sampling)
        with Ahead({**fitting, **drawing}) as self._ahead:
            yield self

    def edit(self, item: EditItem, source: Source, work: Path) -> Float[np.ndarray, "v h w 3"]:
        image, target = jnp.asarray(source.square), self._texts[item.target_text]
        model = (self._cascade, self._params)
        machine = (self._ahead, self._quiet, self._stop)
        fit, _ = run_fit(*model, image, target, self._texts.null, self._settings, work, *machine)
        drawn, _ = draw(*model, fit, self._settings.etas, self._settings, *machine)
        return drawn.reshape(-1, *drawn.shape[2:])


class Other:
    """Any `editors.contracts.Method` with its own settings: what it inverts is inverted anew."""

    def __init__(
        self, method: Method, opened: Opened, settings: EditSettings, items: Sequence[EditItem]
    ):
        self._method, self._config, self._settings = method, method.config(), settings
        self._given = extras(method.name, items)
        self._strengths = (getattr(self._config, method.knob),)
        self.variants = _variants(method.knob, self._strengths, settings.seeds)
        texts = [t for i in items for t in (i.target_text, i.source_text)]
        self._cascade, self._texts = opened.cascade, _Texts(opened, texts)
        self._params = {"stages": opened.load_stages()}

    def edit(self, item: EditItem, source: Source, work: Path) -> Float[np.ndarray, "v h w 3"]:
        settings, seeds, inputs = self._settings, self._settings.seeds, self._inputs(item, source)
        common = (self._cascade, self._params, inputs)
        how = (self._config, settings.sampling)
        fit = self._method.fit(*common, *how, jax.random.key(settings.seed))
        base = self._method.render(*common, fit, *how, self._strengths, seeds)
        drawn = enlarge(*common, base, seeds, settings.sampling)
        return np.asarray(drawn).reshape(-1, *drawn.shape[2:])

    def _inputs(self, item: EditItem, source: Source) -> Inputs:
        mask, text = None, None
        if "mask" in self._given and item.mask is not None:
            mask = jnp.asarray(item.mask.scaled(self._cascade.size), jnp.float32)[None, :, :, None]
        if "source text" in self._given and item.source_text:
            text = self._texts[item.source_text]
        image = jnp.asarray(source.square)
        return Inputs(image, self._texts[item.target_text], self._texts.null, text, (), mask)


def _variants(knob: str, amounts: Sequence[float], seeds: Sequence[int]) -> tuple[Variant, ...]:
    return tuple(Variant(knob, a, s) for a in amounts for s in seeds)


@contextlib.contextmanager
def open_editor(
    method: str,
    opened: Opened,
    settings: EditSettings,
    items: Sequence[EditItem],
    stop: StopFlag,
) -> Iterator[Editor]:
    """A method, ready to edit `items`.

    Raises:
        UserError: the model cannot be edited by it, or not with these settings or items.
    """
    if method == IMAGIC:
        check_tuning(opened, settings)
        with Imagic(opened, settings, items, stop).compiled() as editor:
            yield editor
        return
    about = METHODS[method]
    if (why := about.refuses(opened.cascade)) is not None:
        raise UserError(f"--methods: {method} cannot work on {opened.card['name']}: {why}")
    yield Other(about, opened, settings, items)
