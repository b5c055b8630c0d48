"""What lies beside the weights of a converted fit: embeddings, cascade.json, notes for a README."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagic_jax.backbones.registry import FORMAT, Opened, family_of
from imagic_jax.editors.imagic import Fit
from imagic_jax.report.snippets import StageNote

EMBEDDINGS = "imagic_embeddings.safetensors"


def unets(opened: Opened) -> list[Path]:
    """The folder of each stage's UNet; its pipeline's is above."""
    return [source["unet"] for source in opened.sources["stages"]]


def embeddings(fit: Fit, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The text states by name, "base.target", "base.optimised", "base.null"; "_pooled" behind the
    name marks the pooled states, "_mask" the mask.
    """
    found = {}
    for name, stage, null in zip(names, fit.stages, fit.null, strict=True):
        conds = {"target": stage.target, "optimised": stage.optimised, "null": null}
        for which, cond in conds.items():
            for field, value in (cond._asdict() if cond is not None else {}).items():
                # What is not optimised is the target's.
                own = which != "optimised" or field == "states"
                if value is not None and own:
                    end = "" if field == "states" else f"_{field}"
                    found[f"{name}.{which}{end}"] = np.ascontiguousarray(value)
    return found


def card_of(opened: Opened, name: str) -> dict[str, Any]:
    """The cascade.json by which `open_model` knows the order and settings of the copied stages."""
    rows = opened.card.get("stages") or [{"name": s.name} for s in opened.cascade.stages]
    rows = [{**{k: v for k, v in row.items() if k != "id"}, "folder": row["name"]} for row in rows]
    if len(rows) == 1:
        rows[0]["folder"] = "."
    card = {k: v for k, v in opened.card.items() if k != "family"}
    card |= {"format": FORMAT, "name": name, "stages": rows}
    if card.get("text"):
        base = rows[0]["folder"]
        places = {"encoder": f"{base}/text_encoder", "tokenizer": f"{base}/tokenizer"}
        card["text"] = {**card["text"], **places}
    return card


def notes_of(fit: Fit, config: Mapping[str, Any], opened: Opened, as_lora: bool) -> list[StageNote]:
    """What the README's code needs to know of each stage; `config` is the fit's preset."""
    stages: Any = opened.cascade.stages
    places = [s.name if len(stages) > 1 else "" for s in stages]
    bases = _bases(str(config["model"]), unets(opened))
    return [
        StageNote(
            name=stage.name,
            folder=base if as_lora else place,
            family=family_of(unet.parent),
            size=stage.size,
            steps=config["sampling"][stage.name]["steps"],
            guidance=config["sampling"][stage.name]["guidance"],
            elsewhere=as_lora,
            lora=place if as_lora and fitted.delta is not None else None,
            level=stage.low_res.sample_level if stage.low_res else None,
            patch=getattr(stage.codec, "patch", 1),
        )
        for stage, place, base, unet, fitted in zip(
            stages, places, bases, unets(opened), fit.stages, strict=True
        )
    ]


def _bases(model: str, unets: Sequence[Path]) -> list[str]:
    """Where a LoRA's base models are, hub ids where they come from there."""
    names = [name.strip() for name in model.split(",")]
    if len(names) != len(unets):
        names = [""] * len(unets)  # one folder that names its stages
    return [
        name if "/" in name and not Path(name).expanduser().is_dir() else str(u.parent.resolve())
        for name, u in zip(names, unets, strict=True)
    ]
