"""Parts of an edit against the clock: the loops and programs that `imagic edit` runs."""

import contextlib
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagic_jax.backbones.contracts import Cond, repeat
from imagic_jax.backbones.generate import draw, seed_keys
from imagic_jax.backbones.registry import Opened
from imagic_jax.diffusion.schedule import padded_grid
from imagic_jax.editors import imagic
from imagic_jax.jobs import parts
from imagic_jax.jobs.parts import Part
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.runtime.compilation import counted
from imagic_jax.runtime.costs import Cost, cost_of
from imagic_jax.runtime.loop import Chunk
from imagic_jax.typing import Params

TEXT = "a bird spreading its wings"
#: Seconds of each call, per step, and seconds of compilation in the first.
Timed = tuple[list[float], float]


class _Enough(Exception):
    """Enough chunks of a loop were timed."""


class Machine:
    """Holds the model and runs its parts."""

    def __init__(self, opened: Opened, settings: EditSettings, repeats: int):
        self._opened, self._settings, self._repeats = opened, settings, repeats
        self._text = opened.load_text()
        self._texts = [opened.cascade.text.encode(self._text, [t]) for t in (TEXT, "")]
        self._params: Any = None

    def measure(self, part: Part) -> tuple[float, float, list[float], Cost]:
        """Seconds to compile cold and warm, seconds of each step, and what XLA counts."""
        began = time.perf_counter()
        cost = cost_of(part.lower().compile())
        cold = time.perf_counter() - began
        jax.clear_caches()
        seconds, warm = self._run(part)
        return cold, warm, seconds, cost

    def _run(self, part: Part) -> Timed:
        kind, _, name = part.name.partition(" ")
        if kind == "text":
            encode = self._opened.cascade.text.encode
            return self._calls(lambda: encode(self._text, [TEXT]))
        self._text = None  # as an edit does: T5-XXL would leave no room for what is tuned
        if self._params is None:
            self._params = {"stages": self._opened.load_stages()}
        names = [s.name for s in self._opened.cascade.stages]
        i = names.index(name) if name else 0
        return {
            "encode": self._encode,
            "embed": self._embed,
            "tune": self._tune,
            "sample": self._sample,
            "decode": self._decode,
        }[kind](i)

    def _image(self) -> jax.Array:
        side = self._opened.cascade.size
        rng = np.random.default_rng(0)
        return jnp.asarray(rng.uniform(-1, 1, (1, side, side, 3)).astype(np.float32))

    def _stage(self, i: int) -> tuple[Any, Params]:
        return self._opened.cascade.stages[i], self._params["stages"][i]

    def _calls(self, run: Callable[[], Any]) -> Timed:
        with counted() as compiled:
            jax.block_until_ready(run())
        return [_timed(run) for _ in range(self._repeats)], compiled.seconds

    def _encode(self, i: int) -> Timed:
        stage, params = self._stage(i)
        image = self._image()
        return self._calls(lambda: parts.prepare(stage, params, image))

    def _decode(self, i: int) -> Timed:
        stage, params = self._stage(i)
        x0 = jnp.zeros(stage.sample_shape(self._settings.sampling.batch), jnp.float32)
        return self._calls(lambda: parts.finish(stage, params, x0))

    def _embed(self, i: int) -> Timed:
        stage, params = self._stage(i)
        picture = imagic.picture_for(stage, params, self._image())
        config = dataclasses.replace(self._settings.embedding, steps=2**30)
        cond, key = self._texts[0][i], jax.random.key(0)
        run = functools.partial(imagic.embed, stage, params, picture, cond, config, key)
        return self._chunks(run)

    def _tune(self, i: int) -> Timed:
        stage, params = self._stage(i)
        picture = imagic.picture_for(stage, params, self._image())
        settings: Any = self._settings.tuning[i]
        config = dataclasses.replace(settings, steps=2**30)
        cond, null, key = self._texts[0][i], self._texts[1][i], jax.random.key(0)
        run = functools.partial(imagic.tune, stage, params, picture, cond, null, config, key)
        return self._chunks(run)

    def _chunks(self, run: Callable[..., Any]) -> Timed:
        """Times whole chunks of a loop; the first is one step and its compilation."""
        seconds: list[float] = []

        def watch(chunk: Chunk) -> None:
            seconds.append(chunk.seconds / len(chunk.losses))
            if len(seconds) > self._repeats:
                raise _Enough

        with counted() as compiled, contextlib.suppress(_Enough):
            run(on_chunk=watch)
        return seconds[1:], compiled.seconds

    def _sample(self, i: int) -> Timed:
        """A step's share of draws of several steps, over draws of one."""
        with counted() as compiled:
            self._draw(i, 1)
        once = [_timed(lambda: self._draw(i, 1)) for _ in range(self._repeats)]
        most = self._stage(i)[0].schedule.num_train_timesteps - 1
        more = min(max(round(1.0 / statistics.median(once)), 2), most)
        long = [_timed(lambda: self._draw(i, 1 + more)) for _ in range(self._repeats)]
        start = statistics.median(once)
        return [max(s - start, 0.0) / more for s in long], compiled.seconds

    def _draw(self, i: int, steps: int) -> jax.Array:
        stage, params = self._stage(i)
        sampling = self._settings.sampling
        many = [_host(repeat(texts[i], sampling.batch)) for texts in self._texts]
        low = stage.low_res_size and self._opened.cascade.stages[i - 1].size
        image = np.zeros((sampling.batch, low, low, 3), np.float32) if low else None
        scale = sampling.guidance[i]
        return draw(
            stage,
            params,
            *many,
            image,
            seed_keys(range(sampling.batch), i),
            jnp.float32(1.0 if scale is None else scale),
            *padded_grid(stage.schedule, steps),
            guided=scale is not None,
            sampler=sampling.sampler,
        )

    def edits(self) -> list[float]:
        """Seconds of whole edits, warm: fit and render, the texts being encoded."""
        if self._params is None:
            self._params = {"stages": self._opened.load_stages()}
        return [_timed(self._edit) for _ in range(self._repeats + 1)][1:]

    def _edit(self) -> np.ndarray:
        settings, cascade = self._settings, self._opened.cascade
        target, null = self._texts
        image = self._image()
        fit = imagic.fit(
            cascade,
            self._params,
            image,
            target,
            null,
            settings.embedding,
            settings.tuning,
            jax.random.key(settings.seed),
        )
        sampling, etas, seeds = settings.sampling, settings.etas, settings.seeds
        return imagic.render(cascade, self._params, fit, etas, seeds, sampling, image=image)


def _timed(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - began


def _host(cond: Cond) -> Cond:
    return jax.tree.map(np.asarray, cond)
