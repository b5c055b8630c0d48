"""What a cascade's super-resolution stages leave of an edit, were the base to draw it perfectly.

    python benchmarks/sr_ceiling.py --rates=0,5e-5,2e-4 --json=benchmarks/results/sr_ceiling.json

The base is left out: its place is taken by the ideal edit and by the input, at the base's size, of
some validation pictures of every kind of edit. The first super-resolution stage is tuned on the
input under the target text, as Imagic tunes it, with the preset's steps at each of several learning
rates; then it and what follows draw. Too high a rate learns the input by heart and draws it over
the edit. Told are

* back: PSNR (dB, at the cascade's full size) of the input that comes back, and
* of the ideal edit: q, the reader's measure of being decided between input and ideal (0 is the
  ideal, 1 is halfway; the gate asks for 0.2), and how many are right and past the gates.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from imagic_jax.backbones import adapters, registry
from imagic_jax.backbones.contracts import repeat
from imagic_jax.backbones.generate import generate
from imagic_jax.backbones.pixels import resize
from imagic_jax.backbones.registry import Loaded
from imagic_jax.editors import imagic
from imagic_jax.evaluation import gates, scoring
from imagic_jax.evaluation.fits import image_of, texts
from imagic_jax.evaluation.items import EDITS, Item, items
from imagic_jax.jobs import presets, settings
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.metrics.psnr import psnr
from imagic_jax.runtime import compilation
from imagic_jax.typing import Params

_CONFIG = flags.DEFINE_string("config", "flatland_imagen", "Preset of a pixel cascade.")
_RATES = flags.DEFINE_list("rates", ["0", "5e-5", "2e-4"], "Learning rates; 0 tunes nothing.")
_COUNT = flags.DEFINE_integer("count", 12, "Validation pictures, evenly over the kinds.", 1)
_JSON = flags.DEFINE_string("json", None, "Also write the numbers to this file.")

SR1 = 1  # the stage of the cascade that Imagic tunes besides the base


def tuned(loaded: Loaded, preset: EditSettings, item: Item, rate: float) -> list[Params]:
    """The parameters of all stages, the first super-resolution stage tuned on `item`'s picture."""
    stages = list(loaded.params["stages"])
    config = preset.tuning[SR1]
    assert config is not None
    if rate == 0:
        return stages
    stage, params = loaded.cascade.stages[SR1], stages[SR1]
    key = jax.random.fold_in(jax.random.key(preset.seed), item.nuisance_seed)
    state = imagic.tune(
        stage,
        params,
        imagic.picture_for(stage, params, image_of(loaded, item)),
        texts(loaded, item.text)[SR1],
        texts(loaded, "")[SR1],
        dataclasses.replace(config, learning_rate=rate),
        imagic.stage_key(key, "tune", SR1),
    )
    stages[SR1] = adapters.merge(params, state.value["trainable"])
    return stages


def drawn(loaded: Loaded, preset: EditSettings, item: Item, stages: list[Params]) -> np.ndarray:
    """The input and the ideal edit through the super-resolution stages: (2, S, S, 3) in [-1, 1]."""
    before, ideals = item.pictures(loaded.cascade.size)
    both = np.stack([before, ideals[0]]).astype(np.float32) * 2.0 - 1.0
    base = np.asarray(resize(jnp.asarray(both), loaded.cascade.stages[0].size))
    conds = [repeat(c, 2) for c in texts(loaded, item.text)]
    (seed,) = item.seeds(1)
    null = texts(loaded, "")
    return generate(loaded.cascade, stages, conds, null, [seed, seed], preset.sampling, base=base)


def measured(
    loaded: Loaded, preset: EditSettings, item: Item, rate: float, gate: scoring.Gates
) -> dict[str, Any]:
    """One row: what a rate makes of an item."""
    back, edit = drawn(loaded, preset, item, tuned(loaded, preset, item, rate))
    (back_db,) = psnr(jnp.asarray(back)[None], image_of(loaded, item))
    (score,) = scoring.score(item, np.clip(scoring.to_reading_size(edit[None]), 0, 1), gate)
    return {
        "item": item.name,
        "rate": rate,
        "back_db": float(back_db),
        "undecided": score["undecided"],
        "identity": score["identity"],
        "joint": score["joint"],
    }


def table(rows: list[dict[str, Any]], rates: list[float]) -> str:
    """The rows of each rate together, as Markdown."""
    head = ("rate", "n", "back (dB)", "q, median", "right, past the gates", "identity")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for rate in rates:
        own = [r for r in rows if r["rate"] == rate]
        back, right, identity = (
            float(np.mean([r[n] for r in own])) for n in ("back_db", "joint", "identity")
        )
        q = float(np.median([r["undecided"] for r in own]))
        lines.append(
            f"| {rate:g} | {len(own)} | {back:.1f} | {q:.3f} | {right:.2f} | {identity:.3f} |"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    del argv
    try:
        rates = [float(r) for r in _RATES.value]
    except ValueError as error:
        raise app.UsageError(f"--rates: {error}") from error
    if not rates or not all(0.0 <= r < float("inf") for r in rates):
        raise app.UsageError(f"--rates must be numbers from 0 up, got {_RATES.value}")
    compilation.use_cache()
    config = presets.load_config(presets.find_preset(_CONFIG.value))
    loaded = registry.load_cascade(config.model)
    preset = settings.from_config(config, loaded.cascade)
    if len(preset.tuning) <= SR1 or preset.tuning[SR1] is None:
        raise app.UsageError(f"--config: {_CONFIG.value} tunes no super-resolution stage")
    gate, notes = gates.gates_for(loaded.opened.fingerprint())
    print("\n".join(notes))
    rows = []
    for item in items("validation", _COUNT.value, edits=tuple(EDITS)):
        for rate in rates:
            rows.append(measured(loaded, preset, item, rate, gate))
            print(json.dumps(rows[-1]), flush=True)
    print(f"\n{table(rows, rates)}")
    if _JSON.value:
        told = {"config": _CONFIG.value, "rows": rows}
        Path(_JSON.value).write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
