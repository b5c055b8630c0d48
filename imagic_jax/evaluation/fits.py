"""Imagic's fits of benchmark items. What ablations have in common is computed once.

Stage A draws step i from `fold_in(key, i)` at a fixed rate, so its first steps are the same however
many follow. Contenders that differ in stage B alone take the same embedding, and one with more
steps goes on where another stopped. What that took is counted for each as if it had been alone.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from imagic_jax.backbones.contracts import Cond
from imagic_jax.backbones.registry import Loaded
from imagic_jax.editors import imagic
from imagic_jax.evaluation.costs import Clock
from imagic_jax.evaluation.items import Item
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.runtime.loop import LoopState


class _Embedded(NamedTuple):
    """Stage A after some steps, on the host, and what it took."""

    state: LoopState
    seconds: float


class Fits:
    """Fits items on one model; remembers their embeddings."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._known: dict[tuple[Any, ...], list[_Embedded]] = {}

    def __call__(self, item: Item, settings: EditSettings, clock: Clock) -> imagic.Fit:
        """Fits an item's picture to its text; the key is the item's own, the same for every
        method."""
        loaded = self._loaded
        target, null = texts(loaded, item.text), texts(loaded, "")
        key = jax.random.fold_in(jax.random.key(settings.seed), item.nuisance_seed)
        image = image_of(loaded, item)
        embedded = self._embed(item, image, target[0], settings, key, clock)
        return clock.measure(
            "fit",
            lambda: imagic.fit(
                loaded.cascade,
                loaded.params,
                image,
                target,
                null,
                settings.embedding,
                settings.tuning,
                key,
                embedded=embedded,
            ),
        )

    def _embed(
        self,
        item: Item,
        image: jax.Array,
        target: Cond,
        settings: EditSettings,
        key: jax.Array,
        clock: Clock,
    ) -> LoopState:
        """Stage A of the base."""
        config = settings.embedding
        stage, params = self._loaded.cascade.stages[0], self._loaded.params["stages"][0]
        what = (item.name, settings.seed, config.learning_rate, config.batch)
        known = self._known.setdefault(what, []) if item.given is None else []
        before = [e for e in known if e.state.step <= config.steps]
        start = max(before, key=lambda e: e.state.step) if before else None
        if start is not None:
            clock.seconds["fit"] += start.seconds
            if start.state.step == config.steps:
                return start.state

        def run() -> LoopState:
            picture = imagic.picture_for(stage, params, image)
            return imagic.embed(
                stage,
                params,
                picture,
                target,
                config,
                imagic.stage_key(key, "embed", 0),
                state=start and start.state,
            )

        done, value = clock.measure("fit", run)
        state = LoopState(done, jax.device_get(value))
        known.append(_Embedded(state, clock.seconds["fit"]))
        return state


def image_of(loaded: Loaded, item: Item) -> jax.Array:
    """An item's picture as the model takes it: (1, S, S, 3) in [-1, 1]."""
    return jnp.asarray(item.picture(loaded.cascade.size), jnp.float32)[None] * 2.0 - 1.0


def texts(loaded: Loaded, text: str) -> tuple[Cond, ...]:
    """A text as every stage reads it."""
    return loaded.cascade.text.encode(loaded.params["text"], [text])
