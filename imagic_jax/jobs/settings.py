"""The settings of an edit, checked: from a preset's config to frozen dataclasses."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from imagic_jax.backbones.contracts import Cascade
from imagic_jax.backbones.generate import Sampling
from imagic_jax.editors.imagic import EmbeddingConfig, TuningConfig
from imagic_jax.errors import UserError

MOST_SEED = 2**32 - 1
MOST_BATCH = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class EditSettings:
    """Everything that decides what an edit computes, besides picture and text."""

    embedding: EmbeddingConfig
    tuning: tuple[TuningConfig | None, ...]
    sampling: Sampling
    etas: tuple[float, ...]
    seeds: tuple[int, ...]
    seed: int = 0  # of the fit


def from_config(config: Any, cascade: Cascade) -> EditSettings:
    """Reads a preset's `ConfigDict` for a cascade.

    Raises:
        UserError: a value is missing, no number, out of range, or names a stage that the model
            lacks.
    """
    preset = config.to_dict()
    names = [s.name for s in cascade.stages]
    embedding, tuning, sampling = (
        _section(preset, n, "config.") for n in ("embedding", "tuning", "sampling")
    )
    for where, entries in (("tuning", tuning), ("sampling", sampling)):
        for name in entries:
            if isinstance(entries[name], Mapping) and name not in names:
                raise UserError(
                    f"config.{where}.{name}: this model has no stage {name!r};"
                    f" it has {', '.join(names)}"
                )
    rows = [_section(sampling, n, "config.sampling.") for n in names]
    steps, guidance = [], []
    for name, row, stage in zip(names, rows, cascade.stages, strict=True):
        where, most = f"config.sampling.{name}.", stage.schedule.num_train_timesteps
        steps.append(whole(_entry(row, "steps", where), f"{where}steps", 1, most))
        guidance.append(guidance_scale(_entry(row, "guidance", where), f"{where}guidance"))
    batch, sampler = (_entry(sampling, n, "config.sampling.") for n in ("batch", "sampler"))
    etas, seeds = (_several(preset, n, "config.") for n in ("etas", "seeds"))
    return EditSettings(
        embedding=_optimisation(EmbeddingConfig, embedding, "config.embedding."),
        tuning=tuple(
            _optimisation(
                TuningConfig, _section(tuning, n, "config.tuning."), f"config.tuning.{n}."
            )
            if n in tuning
            else None
            for n in names
        ),
        sampling=Sampling(
            steps=tuple(steps),
            guidance=tuple(guidance),
            batch=whole(batch, "config.sampling.batch", 1, MOST_BATCH),
            sampler=choice(sampler, "config.sampling.sampler", ("ddim", "ddpm")),
            start=_start(sampling.get("start", 1.0)),
        ),
        etas=tuple(number(e, "config.etas") for e in etas),
        seeds=tuple(whole(s, "config.seeds", 0, MOST_SEED) for s in seeds),
        seed=whole(_entry(preset, "seed", "config."), "config.seed", 0, MOST_SEED),
    )


def untuned(settings: EditSettings) -> EditSettings:
    """The same for a method that tunes nothing."""
    return dataclasses.replace(settings, tuning=(None,) * len(settings.tuning))


def _entry(values: Mapping[str, Any], name: str, where: str) -> Any:
    """`values[name]`; `where` is how the user names `values`, with a dot."""
    if name not in values:
        raise UserError(f"the preset lacks {where}{name}")
    return values[name]


def _section(values: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    section = _entry(values, name, where)
    if not isinstance(section, Mapping):
        raise UserError(f"{where}{name} must hold named settings, got {section!r}")
    return section


def _several(values: Mapping[str, Any], name: str, where: str) -> Sequence[Any]:
    several = _entry(values, name, where)
    if not isinstance(several, list | tuple) or not several:
        raise UserError(f"{where}{name} must list one value or more, got {several!r}")
    return several


def _start(value: Any) -> float:
    start = number(value, "config.sampling.start")
    if not 0 < start <= 1:
        raise UserError(
            "config.sampling.start must lie above 0 and up to 1 (1: from noise alone), got"
            f" {value!r}"
        )
    return start


def _optimisation(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    steps, rate, batch = (_entry(values, n, where) for n in ("steps", "learning_rate", "batch"))
    checked = {
        "steps": whole(steps, f"{where}steps", 0, 1_000_000),
        "learning_rate": number(rate, f"{where}learning_rate"),
        "batch": whole(batch, f"{where}batch", 1, MOST_BATCH),
    }
    if checked["learning_rate"] <= 0:
        raise UserError(f"{where}learning_rate must be above 0, got {checked['learning_rate']}")
    if "train" in values:
        checked["train"] = str(values["train"])
    if "rank" in values:
        checked["rank"] = whole(values["rank"], f"{where}rank", 0, 4096)
    if "dropout" in values:
        checked["dropout"] = number(values["dropout"], f"{where}dropout")
        if not 0 <= checked["dropout"] <= 1:
            raise UserError(f"{where}dropout must lie in 0..1, got {values['dropout']!r}")
    if "prior_batch" in values:
        checked["prior_batch"] = whole(values["prior_batch"], f"{where}prior_batch", 0, MOST_BATCH)
    if "prior_weight" in values:
        checked["prior_weight"] = number(values["prior_weight"], f"{where}prior_weight")
        if checked["prior_weight"] < 0:
            raise UserError(f"{where}prior_weight must not be negative")
    if "prior_from" in values:
        checked["prior_from"] = number(values["prior_from"], f"{where}prior_from")
        if not 0 <= checked["prior_from"] < 1:
            raise UserError(f"{where}prior_from must lie in 0..1, below 1")
    return kind(**checked)


def number(value: Any, where: str) -> float:
    """A finite number.

    Raises:
        UserError: it is none.
    """
    try:
        result = float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} must be a number, got {value!r}") from error
    if not math.isfinite(result):
        raise UserError(f"{where} must be a finite number, got {value!r}")
    return result


def whole(value: Any, where: str, low: int, high: int) -> int:
    """A whole number in low..high."""
    result = number(value, where)
    if result != int(result) or not low <= result <= high:
        raise UserError(f"{where} must be a whole number from {low} to {high}, got {value!r}")
    return int(result)


def choice(value: Any, where: str, options: Sequence[str]) -> Any:
    """One of a few words."""
    if value not in options:
        raise UserError(f"{where} must be one of {', '.join(options)}, got {value!r}")
    return value


def guidance_scale(value: Any, where: str) -> float | None:
    """A guidance scale; 1 means none, which costs half."""
    scale = number(value, where)
    if scale < 0:
        raise UserError(f"{where} must not be negative, got {value!r}")
    return None if scale == 1.0 else scale


def listed(text: str, where: str) -> list[str]:
    """The entries of a comma-separated flag.

    Raises:
        UserError: there is none.
    """
    entries = [e.strip() for e in text.split(",") if e.strip()]
    if not entries:
        raise UserError(f"{where} must name at least one value, e.g. {where}=0.5,0.7")
    return entries
