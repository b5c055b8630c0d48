"""What a benchmark runs: named functions from an item, seeds and strengths to pictures.

A contender sees the item's picture and target text (and what its row says that it is given besides)
and draws every strength of its knob with every seed, so that all have the same budget. Imagic, its
ablations, sampling from the text alone and copying are made here; the editors of
`editors.methods` are taken as they are.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from imagic_jax.backbones.contracts import repeat
from imagic_jax.backbones.generate import generate
from imagic_jax.backbones.registry import Loaded
from imagic_jax.editors import imagic
from imagic_jax.editors.contracts import Concept, Inputs, Method, enlarge
from imagic_jax.editors.methods import METHODS
from imagic_jax.editors.words import align
from imagic_jax.errors import UserError
from imagic_jax.evaluation.costs import Clock, Cost, peak_mib
from imagic_jax.evaluation.fits import Fits, image_of, texts
from imagic_jax.evaluation.items import Item
from imagic_jax.evaluation.scoring import to_reading_size
from imagic_jax.flatland.counterfactuals import background_mask
from imagic_jax.jobs.compare import spread
from imagic_jax.jobs.concepts import ConceptText
from imagic_jax.jobs.imagic_work import cost as evaluations
from imagic_jax.jobs.models import clip_for
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.metrics.clip_guidance import open_scorer

#: Guidance scales of contenders that have no other knob. None is 1, which is another program.
GUIDANCES = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.5, 9.0, 12.0, 15.0)
STEPS = 11  # strengths of every knob
_EMBEDDING_STEPS = (10, 100, 1000)  # the paper's Fig. 14
#: Of a concept: the share of the picture that is left alone. An edit changes more of these small
#: pictures than the few objects of a photograph for which a method's own is meant.
CONCEPT_THRESHOLD = 0.5
#: Its pictures have a nuisance of their own: their factors are read freely.
TEXT_ONLY = "text_only"


class Outcome(NamedTuple):
    """Pictures of one item, [0, 1], and their cost. A contender may hand back anything else than
    (strengths, seeds, 64, 64, 3): it is named and counted as failed."""

    pictures: Float[np.ndarray, "e s h w 3"]
    cost: Cost


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contender:
    """One row of the tables.

    Attributes:
        name: e.g. "imagic_no_tuning".
        knob: what trades the picture for the text; "" for none.
        strengths: its values, from least to most edit.
        given: what it is given besides picture and text, e.g. ("mask",).
        run: (item, seeds, strengths) -> Outcome.
    """

    name: str
    knob: str
    strengths: tuple[float, ...]
    run: Callable[[Item, Sequence[int], Sequence[float]], Outcome]
    given: tuple[str, ...] = ()


def contenders(
    names: Sequence[str], loaded: Loaded, settings: EditSettings, strengths: int = STEPS
) -> list[Contender]:
    """The contenders of these names, each with so many strengths of its knob at most.

    Raises:
        UserError: there is none of a name, or one cannot work on this model.
    """
    found, fits = [], Fits(loaded)
    for name in names:
        if name in METHODS:
            one = _of_editor(METHODS[name], loaded, settings)
        elif name in _TITLES:
            one = _own(name, loaded, settings, fits)
        else:
            raise UserError(f"--methods: there is no {name!r} (known: {', '.join(known_names())})")
        found.append(dataclasses.replace(one, strengths=spread(one.strengths, strengths)))
    return found


#: Titles and knobs of what is made here; those of `editors.methods` come with them.
_TITLES = {
    "imagic": ("Imagic", "eta"),
    "imagic_no_tuning": ("Imagic without fine-tuning", "eta"),
    "imagic_no_embedding": ("Imagic without embedding optimisation", "guidance"),
    **{
        f"imagic_{n}_embedding_steps": (f"Imagic, {n} embedding steps", "eta")
        for n in _EMBEDDING_STEPS
    },
    TEXT_ONLY: ("Text alone", ""),
    "copy": ("Copy", ""),
}


def titles_and_knobs() -> tuple[dict[str, str], dict[str, str]]:
    """What every contender is called, and what its strength is called."""
    both = (
        _TITLES
        | {
            "imagic_auto": ("Imagic, eta by score", ""),
            "imagic_best": ("Imagic, best of its pictures by score", ""),
        }
        | {m.name: (m.title, m.knob) for m in METHODS.values()}
    )
    return {n: t for n, (t, _) in both.items()}, {n: k for n, (_, k) in both.items()}


def given_to(name: str) -> tuple[str, ...]:
    """What a row of the tables was given besides picture and target text."""
    return given(METHODS[name]) if name in METHODS else ()


def known_names() -> list[str]:
    """All that `contenders` knows."""
    return [*_TITLES, *METHODS]


def _own(name: str, loaded: Loaded, settings: EditSettings, fits: Fits) -> Contender:
    """Imagic, an ablation of it, or what it must be compared with."""
    if name == "copy":
        return Contender(name=name, knob="", strengths=(0.0,), run=_copy)
    if name == TEXT_ONLY:
        return _text_only(loaded, settings)
    if name == "imagic_no_embedding":
        return _no_embedding(loaded, settings, fits)
    if name == "imagic_no_tuning":
        settings = dataclasses.replace(settings, tuning=(None,) * len(settings.tuning))
    elif name != "imagic":
        settings = _with_steps(settings, int(name.split("_")[1]))
    return _imagic(name, loaded, settings, fits)


def _with_steps(settings: EditSettings, steps: int) -> EditSettings:
    return dataclasses.replace(
        settings, embedding=dataclasses.replace(settings.embedding, steps=steps)
    )


def _gradient_steps(settings: EditSettings) -> int:
    """Of the base in one fit."""
    return sum(p.steps for p in (settings.embedding, settings.tuning[0]) if p is not None)


def _imagic(name: str, loaded: Loaded, settings: EditSettings, fits: Fits) -> Contender:
    """Imagic under some settings; eta runs evenly from 0 to the largest of the preset."""
    most = max(settings.etas)

    def run(item: Item, seeds: Sequence[int], strengths: Sequence[float]) -> Outcome:
        clock = Clock()
        fit = fits(item, settings, clock)
        drawn = clock.measure(
            "render",
            lambda: imagic.render(
                loaded.cascade,
                loaded.params,
                fit,
                strengths,
                seeds,
                settings.sampling,
                image=image_of(loaded, item),
            ),
        )
        count = len(seeds) * len(strengths)
        cost = clock.cost(count, _gradient_steps(settings), *evaluations(settings))
        return Outcome(to_reading_size(drawn), cost)

    strengths = tuple(round(most * i / (STEPS - 1), 4) for i in range(STEPS))
    return Contender(name=name, knob="eta", strengths=strengths, run=run)


def _no_embedding(loaded: Loaded, settings: EditSettings, fits: Fits) -> Contender:
    """The model tuned at the target's embedding, which then is the only one: there is no eta, so
    that the guidance scale is the knob."""
    settings = _with_steps(settings, 0)

    def run(item: Item, seeds: Sequence[int], strengths: Sequence[float]) -> Outcome:
        clock = Clock()
        fit = fits(item, settings, clock)
        rows = [
            clock.measure("render", lambda w=w: _guided(loaded, item, fit, seeds, w, settings))
            for w in strengths
        ]
        count = len(seeds) * len(strengths)
        steps = settings.sampling.steps[0] - settings.sampling.left_out
        evaluated = evaluations(settings).fit, 2 * steps
        cost = clock.cost(count, _gradient_steps(settings), *evaluated)
        return Outcome(to_reading_size(np.stack(rows)), cost)

    return Contender(
        name="imagic_no_embedding",
        knob="guidance",
        strengths=GUIDANCES,
        run=run,
    )


def _guided(
    loaded: Loaded,
    item: Item,
    fit: imagic.Fit,
    seeds: Sequence[int],
    guidance: float,
    settings: EditSettings,
) -> np.ndarray:
    scales = (guidance, *settings.sampling.guidance[1:])
    sampling = dataclasses.replace(settings.sampling, guidance=scales)
    image = image_of(loaded, item)
    (drawn,) = imagic.render(
        loaded.cascade, loaded.params, fit, (1.0,), seeds, sampling, image=image
    )
    return drawn


def _text_only(loaded: Loaded, settings: EditSettings) -> Contender:
    """Samples under the target text: what the model draws without ever seeing the picture."""

    def run(item: Item, seeds: Sequence[int], strengths: Sequence[float]) -> Outcome:
        clock, null = Clock(), texts(loaded, "")
        conds = [repeat(c, len(seeds)) for c in texts(loaded, item.text)]
        stages, sampling = loaded.params["stages"], settings.sampling
        drawn = clock.measure(
            "render", lambda: generate(loaded.cascade, stages, conds, null, seeds, sampling)
        )
        cost = clock.cost(len(seeds), 0, 0, evaluations(settings).render)
        return Outcome(to_reading_size(drawn[None]), cost)

    strength = settings.sampling.guidance[0] or 1.0
    return Contender(name=TEXT_ONLY, knob="", strengths=(strength,), run=run)


def _copy(item: Item, seeds: Sequence[int], strengths: Sequence[float]) -> Outcome:
    picture = item.picture(64)
    many = np.broadcast_to(picture, (len(strengths), len(seeds), *picture.shape))
    return Outcome(np.array(many), Cost(0.0, 0.0, 0.0, 0, 0, 0.0, peak_mib()))


def given(method: Method) -> tuple[str, ...]:
    """What the benchmark gives a method besides picture and target text: all that it uses, but a
    mask only where it cannot do without, since that tells where the edit belongs."""
    used = method.needs | (method.takes - {"mask"})
    return tuple(n for n in ("source text", "mask", "concepts") if n in used)


def _of_editor(method: Method, loaded: Loaded, settings: EditSettings) -> Contender:
    """A method of `editors.methods` under its default settings.

    Raises:
        UserError: it cannot work on this model.
    """
    if reason := method.refuses(loaded.cascade):
        raise UserError(f"--methods: {method.name}: {reason}")
    clip = clip_for(method, None, loaded.cascade.name) if "clip" in method.needs else None
    config, sampling = method.config(), settings.sampling
    method.check(config, sampling, clip is not None)

    def run(item: Item, seeds: Sequence[int], strengths: Sequence[float]) -> Outcome:
        clock, model = Clock(), (loaded.cascade, loaded.params)
        key = jax.random.fold_in(jax.random.key(settings.seed), item.nuisance_seed)
        inputs = _inputs(method, loaded, item)
        if clip is not None:
            inputs = inputs._replace(clip=open_scorer(clip, item.text))
        fit = clock.measure("fit", lambda: method.fit(*model, inputs, config, sampling, key))

        # methods that draw noise draw one strength at a time: a batch for more seeds is padding
        few = dataclasses.replace(sampling, batch=min(sampling.batch, len(seeds)))

        def drawn() -> np.ndarray:
            base = method.render(*model, inputs, fit, config, few, strengths, seeds)
            return enlarge(*model, inputs, base, seeds, sampling, keep=method.keeps_outside)

        pictures = clock.measure("render", drawn)
        costs = [method.cost(config, sampling, s) for s in strengths]
        each = float(np.mean([c.render for c in costs]))
        cost = clock.cost(len(seeds) * len(strengths), 0, max(c.fit for c in costs), each)
        return Outcome(to_reading_size(pictures), cost)

    return Contender(
        name=method.name,
        knob=method.knob,
        strengths=method.strengths,
        run=run,
        given=given(method),
    )


def _inputs(method: Method, loaded: Loaded, item: Item) -> Inputs:
    """What a method is given of an item, besides CLIP."""
    what = given(method)
    return Inputs(
        image_of(loaded, item),
        texts(loaded, item.text),
        texts(loaded, ""),
        source=texts(loaded, item.source_text) if "source text" in what else None,
        concepts=_concepts(loaded, item) if "concepts" in what else (),
        mask=_edit_mask(item, loaded.cascade.size) if "mask" in what else None,
        words=(
            align(loaded.cascade, item.source_text, item.text) if "words" in method.needs else None
        ),
    )


def _concepts(loaded: Loaded, item: Item) -> tuple[Concept, ...]:
    """The concept of an edit: its target text, which is placed by the words that the source text
    lacks. An article is read nearly everywhere but where the subject is."""
    text = ConceptText(item.text, 1.0, {"threshold": CONCEPT_THRESHOLD})
    concept = text.encoded(loaded.cascade, texts(loaded, item.text)[0])
    new = align(loaded.cascade, item.source_text, item.text, mode="refine").own
    return (concept._replace(tokens=jnp.asarray(new)[None]) if new.any() else concept,)


def _edit_mask(item: Item, size: int) -> jax.Array:
    """1 where the ideal edit changes the picture: more than a user could draw."""
    source, ideals = item.pictures()
    mask = np.max([1.0 - background_mask(source, x) for x in ideals], axis=0)
    enlarged = jax.image.resize(jnp.asarray(mask, jnp.float32), (size, size), "nearest")
    return enlarged[None, :, :, None]
