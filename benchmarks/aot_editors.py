"""Does Guide-and-Rescale fit a TPU with every self-attention layer? Compiled without a TPU.

    pip install libtpu
    python benchmarks/aot_editors.py --effort=-1 --json=guide_and_rescale-sd15-v4-quick.json

The program is that of a whole edit on the base stage after the inversion: guided steps, with the
gradient of the guiders' energy through the network, plain steps and decoding. Its memory is what
the compiler reserves: weights, latents of the inversion and all temporaries. The floors are those
of a whole edit; XLA counts the work of a loop once, so that its own counts are left out.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
from absl import app, flags

from imagic_jax.editors import attention, guide_and_rescale, guiders
from imagic_jax.editors.guide_and_rescale import Config
from imagic_jax.jobs import aot, models, output, parts, settings
from imagic_jax.jobs.parts import Part
from imagic_jax.jobs.presets import load_config, preset_paths
from imagic_jax.runtime import devices, topology
from imagic_jax.weights.modules import shape_bytes

_PRESET = flags.DEFINE_string("preset", "sd15", "Preset whose architecture is built.")
_SLICE = flags.DEFINE_string("aot", "v4:2x2x1", "Slice of TPUs; one chip of it is used.")
_LAYERS = flags.DEFINE_integer("layers", 0, "Attention layers that are compared; 0 for all.", 0)
_EFFORT = flags.DEFINE_float("effort", None, "How hard XLA tries, -1 to 1 (default: its own).")
_JSON = flags.DEFINE_string("json", None, "Also write the numbers to this file.")

ONCE = ("flops_xla", "accessed", "roofline_s")  # what XLA says of loops as if they ran once


def compiled(target: aot.Target, method: Config) -> dict[str, Any]:
    """Compiles one edit for one chip; what the JSON file holds."""
    chips = topology.devices_of(target.slice)
    chip = devices.chip_of(chips[0].device_kind)
    assert chip is not None  # `topology` knows no others
    preset = load_config(preset_paths()[_PRESET.value])
    opened, _ = models.open_preset(preset, None, "architecture" in preset, "tpu")
    sampling = settings.from_config(preset, opened.cascade).sampling
    cascade, shapes, texts = opened.cascade, opened.stage_shapes(), opened.text_shapes()
    stage = cascade.stages[0]
    cond = jax.eval_shape(lambda p: cascade.text.encode(p, ["a cat"]), texts)[0]
    (program,) = guide_and_rescale.programs(
        cascade, {"stages": shapes}, cond, method, sampling, aot.placing(chips, 1)
    ).values()
    passes = guide_and_rescale.METHOD.cost(method, sampling, method.guided).render
    part = Part(
        "edit base",
        1,
        passes * parts.forward_flops(stage, shapes[0], cond),
        passes * shape_bytes(shapes[0]["unet"]),
        program,
    )
    row = aot.compiled_row(part, target, chip)
    return {
        "method": guide_and_rescale.METHOD.name,
        "preset": _PRESET.value,
        "size": stage.size,
        "target": target.slice,
        "effort": target.effort,
        "chip": dataclasses.asdict(chip),
        "network": aot.network(opened),
        "settings": dataclasses.asdict(method),
        "sampling": dataclasses.asdict(sampling),
        "layers_compared": len(guiders.compared_sites(stage, method.layers)),
        "self_attention_layers": len(attention.self_sites(stage)),
        "versions": output.versions() | output.versions(("libtpu",)),
        **{k: v for k, v in row.items() if k not in ONCE},
    }


def main(argv: list[str]) -> None:
    """Prints one line."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    jax.config.update("jax_platforms", "cpu")
    method = Config(layers=_LAYERS.value)
    result = compiled(aot.Target(_SLICE.value, 1, _EFFORT.value), method)
    used, whole = result["memory_gib"], result["chip"]["memory"] / 2**30
    print(
        f"Guide-and-Rescale, {result['preset']} at {result['size']} pixels,"
        f" {result['layers_compared']} of {result['self_attention_layers']} self-attention layers,"
        f" one chip of {result['target']}: {used or float('nan'):.1f} of {whole:.0f} GiB,"
        f" {'fits' if result['fits'] else 'does not fit'}"
    )
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
