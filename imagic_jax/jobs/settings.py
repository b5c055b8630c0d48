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
        UserError: a value is no number, out of range, or names a stage that the model lacks.
    """
    config = config.to_dict()
    for section in ("embedding", "tuning", "sampling", "etas", "seeds", "seed"):
        if section not in config:
            raise UserError(f"the preset lacks config.{section}")
    names = [s.name for s in cascade.stages]
    tuning = config["tuning"]
    for section, entries in (("tuning", tuning), ("sampling", config["sampling"])):
        for name in entries:
            if isinstance(entries[name], Mapping) and name not in names:
                raise UserError(
                    f"config.{section}.{name}: this model has no stage {name!r};"
                    f" it has {', '.join(names)}"
                )
    sampling = config["sampling"]
    for name in names:
        if name not in sampling:
            raise UserError(f"the preset lacks config.sampling.{name}")
    rows = [sampling[n] for n in names]
    return EditSettings(
        embedding=_optimisation(EmbeddingConfig, config["embedding"], "config.embedding"),
        tuning=tuple(
            _optimisation(TuningConfig, tuning[n], f"config.tuning.{n}") if n in tuning else None
            for n in names
        ),
        sampling=Sampling(
            steps=tuple(
                whole(
                    row["steps"],
                    f"config.sampling.{n}.steps",
                    1,
                    stage.schedule.num_train_timesteps,
                )
                for n, row, stage in zip(names, rows, cascade.stages, strict=True)
            ),
            guidance=tuple(
                guidance_scale(row["guidance"], f"config.sampling.{n}.guidance")
                for n, row in zip(names, rows, strict=True)
            ),
            batch=whole(sampling["batch"], "config.sampling.batch", 1, 4096),
            sampler=choice(sampling["sampler"], "config.sampling.sampler", ("ddim", "ddpm")),
        ),
        etas=tuple(number(e, "config.etas") for e in config["etas"]),
        seeds=tuple(whole(s, "config.seeds", 0, MOST_SEED) for s in config["seeds"]),
        seed=whole(config["seed"], "config.seed", 0, MOST_SEED),
    )


def _optimisation(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    checked = {
        "steps": whole(values["steps"], f"{where}.steps", 0, 1_000_000),
        "learning_rate": number(values["learning_rate"], f"{where}.learning_rate"),
        "batch": whole(values["batch"], f"{where}.batch", 1, 4096),
    }
    if checked["learning_rate"] <= 0:
        raise UserError(f"{where}.learning_rate must be above 0, got {checked['learning_rate']}")
    if "train" in values:
        checked["train"] = str(values["train"])
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
