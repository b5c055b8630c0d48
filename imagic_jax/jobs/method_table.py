"""What `imagic methods` tells: each method, what it needs and costs, and where it runs."""

import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from imagic_jax.backbones.contracts import Cascade
from imagic_jax.editors import imagic
from imagic_jax.editors.contracts import Cost, Method
from imagic_jax.editors.methods import METHODS
from imagic_jax.errors import UserError
from imagic_jax.jobs import imagic_work, methods, models, settings
from imagic_jax.jobs.presets import load_config, preset_paths
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.models import UnsupportedConfig
from imagic_jax.weights import WeightsError

#: `Need`s in words, in the order in which they are listed.
NEEDS = {
    "source text": "a source text (--source_text)",
    "mask": "a mask (--mask)",
    "concepts": "concepts (--concept)",
    "clip": "a CLIP model (--clip)",
    "gradients": "gradients through the model",
    "attention": "the model's attention",
}


class Row(NamedTuple):
    """One method."""

    name: str
    title: str
    paper: str
    summary: str
    needs: tuple[str, ...]
    takes: tuple[str, ...]
    knob: str
    strength: tuple[float, ...]  # what is drawn by default
    range: tuple[float, float]  # least and most edit
    cost: Cost
    refused: dict[str, str]  # presets that cannot run it as they are: why
    settings: dict[str, Any]
    notes: str  # of the settings: the docstring of `Method.config`


def rows(config: Any, cascade: Cascade) -> list[Row]:
    """Every method, with the costs of one preset.

    Raises:
        UserError: the preset's settings are out of range.
    """
    methods.with_defaults(config)
    checked = settings.from_config(config, cascade)
    cascades = preset_cascades()
    return [
        _imagic(checked),
        *(_row(m, config.methods[m.name].to_dict(), checked, cascades) for m in METHODS.values()),
    ]


def _imagic(checked: EditSettings) -> Row:
    etas = checked.etas
    return Row(
        name=methods.IMAGIC,
        title=imagic_work.TITLE,
        paper=imagic_work.PAPER,
        summary="fits text embedding and model to the picture, and draws between picture and text",
        needs=("gradients",),
        takes=(),
        knob="eta",
        strength=etas,
        range=(0.0, 1.0),
        cost=imagic_work.cost(checked),
        refused={},
        settings={},
        notes=inspect.getdoc(imagic.TuningConfig) or "",
    )


def _row(
    method: Method, own: Mapping[str, Any], checked: EditSettings, cascades: Mapping[str, Cascade]
) -> Row:
    config = methods.settings(method, own)
    strength = getattr(config, method.knob)
    refused = {name: _refusal(method, cascade) for name, cascade in cascades.items()}
    return Row(
        name=method.name,
        title=method.title,
        paper=method.paper,
        summary=method.summary,
        needs=_ordered(method.needs),
        takes=_ordered(method.takes),
        knob=method.knob,
        strength=(strength,),
        range=(method.strengths[0], method.strengths[-1]),
        cost=method.cost(config, checked.sampling, strength),
        refused={name: why for name, why in refused.items() if why is not None},
        settings=dataclasses.asdict(config),
        notes=inspect.getdoc(method.config) or "",
    )


def _refusal(method: Method, cascade: Cascade) -> str | None:
    """Why a method cannot run on a model as it is, or None."""
    if "clip" in method.needs and models.own_clip(cascade.name) is None:
        return "no CLIP model comes with them (--clip=DIR)"
    return method.refuses(cascade)


def _ordered(needs: Sequence[Any] | frozenset[Any]) -> tuple[str, ...]:
    return tuple(n for n in NEEDS if n in needs)


def preset_cascades() -> dict[str, Cascade]:
    """The structure of every preset's model that can be told without its weights."""
    found = {}
    for name, path in preset_paths().items():
        config = load_config(path)
        try:
            opened, _ = models.open_preset(config, None, "architecture" in config)
        except (UserError, WeightsError, UnsupportedConfig):
            continue  # not installed
        found[name] = opened.cascade
    return found


def text(found: Sequence[Row], preset: str) -> str:
    """The list for people; `preset` is whose costs are told."""
    presets = sorted({name for row in found for name in row.refused})
    return "\n\n".join(_paragraph(row, preset, presets) for row in found)


def _paragraph(row: Row, preset: str, presets: Sequence[str]) -> str:
    lines = [f"{row.name}: {row.title} ({row.paper})", f"  {row.summary}"]
    told = [
        ("needs", ", ".join(NEEDS[n] for n in row.needs) or "nothing besides picture and text"),
        ("takes", ", ".join(NEEDS[n] for n in row.takes)),
        ("amount", _strength(row)),
        ("cost", _cost(row, preset)),
        ("presets", _presets(row)),
    ]
    return "\n".join([*lines, *(f"  {name:<10}{value}" for name, value in told if value)])


def _strength(row: Row) -> str:
    drawn = ", ".join(f"{s:g}" for s in row.strength)
    low, high = row.range
    return f"{row.knob} {drawn}; {low:g} is the least edit, {high:g} the most"


def _cost(row: Row, preset: str) -> str:
    fit = f"{row.cost.fit} to fit and " if row.cost.fit else ""
    return f"{fit}{row.cost.render} model evaluations per picture (base stage of {preset})"


def _presets(row: Row) -> str:
    if not row.refused:
        return "all"
    whys: dict[str, list[str]] = {}
    for name, why in row.refused.items():
        whys.setdefault(why, []).append(name)
    return "all but " + "; ".join(f"{', '.join(names)}: {why}" for why, names in whys.items())


def details(row: Row) -> str:
    """The settings of one method, one line each, below what its docstring says of them."""
    where = "config" if row.name == methods.IMAGIC else f"config.methods.{row.name}"
    lines = [f"--{where}.{name}={value}" for name, value in row.settings.items()]
    if row.name == methods.IMAGIC:
        lines = ["see config.embedding and config.tuning in `imagic edit --help`"]
    return "\n".join([re.sub(r"`", "", row.notes), "", *lines])


def as_json(found: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as JSON values."""
    return [{**row._asdict(), "cost": row.cost._asdict()} for row in found]
