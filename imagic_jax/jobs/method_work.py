"""Any `editors.contracts.Method` as a job: an inversion, a sweep over its strength, what is said.

An inversion is short and is one dispatch or a few: an interrupted one is done again.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from imagic_jax.backbones.contracts import Cascade, Cond
from imagic_jax.backbones.generate import drawing_programs
from imagic_jax.backbones.registry import Opened
from imagic_jax.editors.contracts import Inputs, Method, enlarge
from imagic_jax.editors.words import Words, align
from imagic_jax.errors import UserError
from imagic_jax.jobs.concepts import EXAMPLE, ConceptText
from imagic_jax.jobs.masks import MaskSource
from imagic_jax.jobs.methods import inverts, more
from imagic_jax.jobs.models import clip_name
from imagic_jax.jobs.pictures import Source
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.jobs.timing import StageTime, timed
from imagic_jax.jobs.word_choices import WordChoices
from imagic_jax.jobs.work import Given, Sweep, Watch
from imagic_jax.metrics.clip_guidance import open_scorer
from imagic_jax.runtime.interrupt import Interrupted
from imagic_jax.runtime.paths import AnyPath
from imagic_jax.typing import Params

WEAK_EDIT = 32.0  # dB PSNR to the input at the strongest edit: hardly anything changed


class MethodFit(NamedTuple):
    """What a method needs to draw: kept as a fit."""

    inputs: Inputs
    found: Any  # of `Method.fit`; None where there is nothing to find


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MethodWork:
    """See `work.Work`.

    Attributes:
        method, config: the editor and its settings.
        settings: seeds and sampling; nothing of it is tuned.
        strengths: the amounts of the edit.
        source_text, concepts, mask_source: what was given besides picture and text.
        mask_pixels: the mask over the edited square, once the picture is known (`on`).
        inverted_in: sampling steps of a saved inversion, which must be drawn in as many.
        words: what was said of single words.
        clip: the folder of a CLIP model.
        text: what the edited picture shall show, once it is known (`on`).
    """

    method: Method
    config: Any
    settings: EditSettings
    strengths: tuple[int | float, ...]
    source_text: str = ""
    concepts: tuple[ConceptText, ...] = ()
    mask_source: MaskSource | None = None
    mask_pixels: Float[np.ndarray, "s s"] | None = None
    inverted_in: int | None = None
    words: WordChoices | None = None
    clip: Path | None = None
    text: str = ""

    @property
    def name(self) -> str:
        return self.method.name

    @property
    def knob(self) -> str:
        return self.method.knob

    @property
    def texts(self) -> tuple[str, ...]:
        source = (self.source_text,) if self.source_text else ()
        return (*source, *(c.text for c in self.concepts))

    @property
    def headline(self) -> str:
        low, high = self.method.strengths[0], self.method.strengths[-1]
        return (
            f"Edited with {self.method.title} ({self.method.paper}), which {self.method.summary}."
            f" Its {self.knob} goes from {low:g} (least) to {high:g} (most edit)."
        )

    @property
    def again(self) -> str:
        some = self.method.strengths[3::2][:3]
        return f"--strength={','.join(f'{s:g}' for s in some)}"

    def mask(self, fit: MethodFit) -> Float[np.ndarray, "s s"] | None:
        return None if fit.inputs.mask is None else np.asarray(fit.inputs.mask)[0, :, :, 0]

    def on(self, source: Source, text: str) -> tuple["MethodWork", list[str]]:
        told = dataclasses.replace(self, text=text)
        if self.mask_source is None:
            return told, []
        pixels, notes = self.mask_source.load(source, text)
        return dataclasses.replace(told, mask_pixels=pixels), notes

    def check(self, opened: Opened) -> None:
        why = self.method.refuses(opened.cascade)
        if why is not None:
            raise UserError(f"--method={self.name} cannot work on {opened.card['name']}: {why}")
        self.method.check(self.config, self.settings.sampling, self.clip is not None)
        if self.inverted_in is None:
            self._words(opened.cascade)  # a word that is in no text fails before anything is read
        steps = self.settings.sampling.steps[0]
        if self.inverted_in not in (None, steps):
            raise UserError(
                f"--steps={steps}: this picture was inverted in {self.inverted_in} steps and is"
                " drawn in as many; edit it again for another number"
            )

    def memory_settings(self) -> EditSettings:
        return self.settings

    def decides(self, cascade: Cascade) -> dict[str, Any]:
        own = dataclasses.asdict(self.config)
        own.pop(self.knob)
        sampling = self.settings.sampling
        found: dict[str, Any] = {
            "method": self.name,
            "method_settings": own,
            "source_text": self.source_text,
            "concepts": [str(c) for c in self.concepts],
            "mask": "" if self.mask_source is None else self.mask_source.digest(),
            "words": "" if self.words is None else str(self.words),
            "clip": clip_name(self.clip),
        }
        if inverts(self.method):  # what was inverted in so many steps is drawn in as many
            found["sampling"] = {"steps": sampling.steps[0], "guidance": sampling.guidance[0]}
        return found

    def programs(
        self, cascade: Cascade, params: Params, target: Sequence[Cond], *, fitting: bool
    ) -> Mapping[str, Callable[[], Any]]:
        draw = drawing_programs(cascade, params["stages"], target, self.settings.sampling)
        draw.pop(f"draw {cascade.stages[0].name}")  # the method draws the base's pictures itself
        return draw

    def target(self, fit: MethodFit) -> tuple[Cond, ...]:
        return fit.inputs.target

    def fit(self, given: Given, folder: AnyPath, watch: Watch) -> tuple[MethodFit, list[StageTime]]:
        inputs = self._inputs(given)
        if not inverts(self.method):
            return MethodFit(inputs, None), []
        spent = StageTime("inverting", steps=self.settings.sampling.steps[0])
        progress = watch.reporter.stage(spent.name, 1)
        with timed(spent):
            found = self.method.fit(
                given.cascade,
                given.params,
                self._with_clip(inputs),
                self.config,
                self.settings.sampling,
                jax.random.key(self.settings.seed),
            )
            jax.block_until_ready(found)
        progress.advance(1)
        return MethodFit(inputs, found), [spent]

    def _inputs(self, given: Given) -> Inputs:
        texts = list(given.texts)
        source = texts.pop(0) if self.source_text else None
        mask = self.mask_pixels
        return Inputs(
            given.image,
            given.target,
            given.null,
            source,
            tuple(
                c.encoded(given.cascade, t[0]) for c, t in zip(self.concepts, texts, strict=True)
            ),
            None if mask is None else jnp.asarray(mask)[None, :, :, None],
            words=self._words(given.cascade),
        )

    def _words(self, cascade: Cascade) -> Words | None:
        """How the words of source and target belong together, where the method asks for it."""
        if "words" not in self.method.needs or not self.source_text:
            return None
        said = self.words or WordChoices()
        texts = (self.source_text, self.text)
        return align(cascade, *texts, emphasis=said.emphasis, place=said.place)

    def _with_clip(self, inputs: Inputs) -> Inputs:
        """The same with the CLIP model, which is not kept with the fit."""
        if self.clip is None:
            return inputs
        return inputs._replace(clip=open_scorer(self.clip, self.text))

    def unfamiliar(self, card: Mapping[str, Any], times: Sequence[StageTime]) -> str:
        return ""

    def draw(
        self,
        cascade: Cascade,
        params: Params,
        fit: MethodFit,
        away: tuple[Cond, ...] | None,
        square: Float[np.ndarray, "s s 3"],
        watch: Watch,
    ) -> tuple[Sweep, dict[str, Any], list[StageTime]]:
        sampling, seeds = self.settings.sampling, self.settings.seeds
        inputs = fit.inputs if away is None else fit.inputs._replace(null=away)
        inputs = self._with_clip(inputs)
        spent = StageTime("rendering")
        larger = math.ceil(len(seeds) / sampling.batch) * (len(cascade.stages) - 1)
        total = len(self.strengths) * (1 + larger)
        progress = watch.reporter.stage("rendering", total)

        def done(*_: int) -> None:
            spent.steps += 1
            progress.advance(spent.steps)
            if watch.stop and spent.steps < total:
                raise Interrupted(f"stopped after {spent.steps} of {total} parts of rendering")

        def before_stage(name: str) -> None:
            asked = time.perf_counter()
            if not watch.ahead.wait(f"draw {name}", lambda: bool(watch.stop)):
                raise Interrupted("stopped while the rendering was being compiled")
            spent.compile_s += time.perf_counter() - asked

        drawn = []
        with timed(spent):
            for strength in self.strengths:
                if watch.stop:
                    raise Interrupted(f"stopped before {self.knob} {strength:g} was drawn")
                base = self.method.render(
                    cascade, params, inputs, fit.found, self.config, sampling, [strength], seeds
                )
                done()
                drawn.append(
                    enlarge(
                        cascade,
                        params,
                        inputs,
                        base,
                        seeds,
                        sampling,
                        keep=self.method.keeps_outside,
                        before_stage=before_stage,
                        on_batch=done,
                    )
                )
        count = len(self.strengths) * len(seeds)
        return np.concatenate(drawn), {**self._facts(), "pictures_drawn": count}, [spent]

    def _facts(self) -> dict[str, Any]:
        costs = [self.method.cost(self.config, self.settings.sampling, s) for s in self.strengths]
        return {
            "title": self.method.title,
            "paper": self.method.paper,
            "method_settings": dataclasses.asdict(self.config),
            "source_text": self.source_text,
            "concepts": [str(c) for c in self.concepts],
            "mask": "" if self.mask_source is None else str(self.mask_source),
            "evaluations": {"fit": costs[0].fit, "render": [c.render for c in costs]},
        }

    def weaknesses(self, result: Mapping[str, Any], drawn: Sweep) -> list[str]:
        if not np.isfinite(drawn).all():
            return ["some pixels are no numbers: lower --guidance"]
        rising = self.method.strengths[-1] > self.method.strengths[0]
        most = max(self.strengths) if rising else min(self.strengths)
        same = min(r["input_psnr"] for r in result["outputs"] if r[self.knob] == most)
        if same <= WEAK_EDIT:
            return []
        further = more(self.method, most)
        try_this = "" if further is None else f"--strength={further:g} or "
        return [
            f"the edit is weak: {self.knob} = {most:g} hardly differs from the picture"
            f" ({same:.1f} dB); try {try_this}a larger --guidance"
        ]

    def numbers(self, result: Mapping[str, Any]) -> list[tuple[str, str]]:
        count = result["evaluations"]
        per = ", ".join(f"{n}" for n in dict.fromkeys(count["render"]))
        rows = [
            ("source text", self.source_text),
            ("concepts", "; ".join(result["concepts"])),
            ("mask", "" if self.mask_source is None else str(self.mask_source)),
            ("model evaluations on the base", f"{count['fit']} to invert, {per} per picture"),
        ]
        settings = result["method_settings"].items()
        rows += [(n.replace("_", " "), f"{v}") for n, v in settings if n != self.knob]
        return [(n, v) for n, v in rows if v]


#: What may be given besides picture and text: its flag, and how that is used.
FLAGS: dict[Any, tuple[str, str]] = {
    "source text": (
        "--source_text",
        'a text that is true of the picture as it is, e.g. --source_text="a photo of a dog"',
    ),
    "concepts": ("--concept", f"what to add or take away, e.g. {EXAMPLE}"),
    "mask": ("--mask", "a picture that is white where the edit may happen, e.g. --mask=mask.png"),
    "words": ("--emphasis and --place", "words of the texts"),
}


def lacks(method: Method, *given: Any) -> str | None:
    """The flag that a method needs and was not given, with an example, or None.

    `given` are the values of `FLAGS`, in order; what is false was not given.
    """
    for (need, (flag, example)), value in zip(FLAGS.items(), given, strict=True):
        if need in method.needs and not value and need != "words":  # these have defaults
            return f"{flag}: {example}"
    return None


def usable(method: Method, *given: Any) -> list[Any]:
    """Of the values of `FLAGS` those that a method uses, the others empty."""
    used = method.needs | method.takes
    empty = ("", (), None, None)
    return [
        value if need in used else nothing
        for need, value, nothing in zip(FLAGS, given, empty, strict=True)
    ]


def refuse_given(name: str, method: Method | None, *given: Any) -> None:
    """Refuses an edit that lacks what its method needs, or was given what it cannot use.

    Args:
        name: of the method.
        method: None for Imagic, which uses none of them.
        given: the values of `FLAGS`, in order; what is false was not given.

    Raises:
        UserError: naming the flag, with an example.
    """
    missing = lacks(method, *given) if method else None
    if missing is not None:
        raise UserError(f"--method={name} needs {missing}")
    used = method.needs | method.takes if method else frozenset()
    for (need, (flag, _)), value in zip(FLAGS.items(), given, strict=True):
        if value and need not in used:
            raise UserError(
                f"{flag}: {name} has no use for it (`imagic methods` tells which methods do);"
                " leave it away"
            )
