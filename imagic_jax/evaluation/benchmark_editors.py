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

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from imagic_jax.backbones.contracts import Cascade
from imagic_jax.backbones.registry import Opened
from imagic_jax.errors import UserError
from imagic_jax.evaluation.edit_items import EditItem
from imagic_jax.jobs.edit import encode_texts
from imagic_jax.jobs.method_work import MethodWork
from imagic_jax.jobs.pictures import Source
from imagic_jax.jobs.work import Given, Watch, Work
from imagic_jax.runtime.ahead import Ahead
from imagic_jax.runtime.interrupt import StopFlag
from imagic_jax.runtime.progress import Reporter

#: What is the model's own, not the benchmark's to give, or has a default.
_OF_THE_MODEL = frozenset({"gradients", "attention", "clip", "words"})


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

    def edit(self, item: EditItem, source: Source, folder: Path) -> Float[np.ndarray, "v h w 3"]:
        """Results in [-1, 1], one per variant; `folder` may hold what a stopped run left.

        Raises:
            UserError: this item cannot be edited.
            NonFiniteLoss: the optimisation diverged.
            Interrupted: a stop was asked for; `folder` holds the state.
        """
        ...


def decides(work: Work, cascade: Cascade) -> dict[str, Any]:
    """What decides a method's pictures, besides weights and data."""
    settings = work.settings
    return {
        **work.decides(cascade),
        work.knob: work.strengths,
        "seeds": settings.seeds,
        "seed": settings.seed,
        "sampling": dataclasses.asdict(settings.sampling),
    }


def extras(work: Work, items: Sequence[EditItem]) -> list[str]:
    """What a method is given of `items` besides picture and target text.

    Raises:
        UserError: it needs something that an item lacks.
    """
    if not isinstance(work, MethodWork):
        return []
    method = work.method
    for need in sorted(method.needs - _OF_THE_MODEL):
        lacking = [i.id for i in items if not _has(i, need)]
        if lacking:
            raise UserError(
                f"--methods: {work.name} needs a {need}, which {len(lacking)} of {len(items)} items"
                f" do not give ({lacking[0]})"
            )
    used = method.needs | (method.takes - {"mask"})
    return [n for n in ("source text", "mask") if n in used and any(_has(i, n) for i in items)]


def _has(item: EditItem, need: str) -> bool:
    if need == "mask":
        return item.mask is not None
    return need == "source text" and bool(item.source_text)


class Opening:
    """Any `jobs.work.Work` on one model, for many items."""

    def __init__(self, work: Work, opened: Opened, items: Sequence[EditItem], stop: StopFlag):
        self._work, self._cascade, self._stop = work, opened.cascade, stop
        self._given = extras(work, items)
        seeds = work.settings.seeds
        self.variants = tuple(Variant(work.knob, a, s) for a in work.strengths for s in seeds)
        said = [t for i in items for t in (i.target_text, *self._of(i).texts)]
        texts = list(dict.fromkeys(said))
        self._null, *conds = encode_texts(opened, ["", *texts])
        self._texts = dict(zip(texts, conds, strict=True))
        self._params = {"stages": opened.load_stages()}

    @contextlib.contextmanager
    def compiled(self) -> Iterator["Opening"]:
        """Compiles all programs beside the first item's work."""
        like = next(iter(self._texts.values()))
        programs = self._work.programs(self._cascade, self._params, like, fitting=True)
        with Ahead(programs) as ahead:
            self._watch = Watch(ahead, Reporter(quiet=True), self._stop)
            yield self

    def edit(self, item: EditItem, source: Source, folder: Path) -> Float[np.ndarray, "v h w 3"]:
        work, _ = self._of(item).on(source, item.target_text)
        model, image = (self._cascade, self._params), jnp.asarray(source.square)
        texts = tuple(self._texts[t] for t in work.texts)
        given = Given(*model, image, self._texts[item.target_text], self._null, texts)
        fit, _ = work.fit(given, folder, self._watch)
        drawn, *_ = work.draw(*model, fit, None, source.square[0], self._watch)
        return np.asarray(drawn).reshape(-1, *drawn.shape[2:])

    def _of(self, item: EditItem) -> Work:
        """The method's work with what the item gives it."""
        if not isinstance(self._work, MethodWork):
            return self._work
        mask, text = None, ""
        if "mask" in self._given and item.mask is not None:
            mask = item.mask.scaled(self._cascade.size).astype(np.float32)
        if "source text" in self._given:
            text = item.source_text or ""
        return dataclasses.replace(self._work, source_text=text, mask_pixels=mask)


@contextlib.contextmanager
def open_editor(
    work: Work, opened: Opened, items: Sequence[EditItem], stop: StopFlag
) -> Iterator[Editor]:
    """A method, ready to edit `items`.

    Raises:
        UserError: it cannot work on the model, or not on such items.
    """
    work.check(opened)
    with Opening(work, opened, items, stop).compiled() as editor:
        yield editor
