"""Whole edits on CPU, warm: ours against PyTorch diffusers' pipelines, where it has one.

    python benchmarks/editors.py --folder=imagic_jax/_models/flatland-sd --json=editors.json

Rows: SDEdit (img2img), SEGA, LEDITS++ and EDICT, each from picture and texts to the edited picture:
texts encoded, picture encoded, inverted, drawn and decoded. Both sides open the same folder. Ours
inverts all the way up, so that any strength can be drawn from it, where theirs stops at the
strength asked for (EDICT: 50 against 40 steps). Each row and side is a child process of its own, in
turn; the first edit (with compilation) is not counted, the median of the others is, and ours must
compile nothing in them. Goal: ratio at most 0.8.

EDICT is a community file of diffusers, which its package lacks: hand in where it lies by
`--edict=FILE`, or the row is left out. Where the UNet reads words on no grid of a quarter of the
latents' side, their LEDITS++ has no attention mask: then give `--masks=noise`.
"""

import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from sd15 import in_child, machine

_FOLDER = flags.DEFINE_string("folder", None, "A StableDiffusionPipeline folder.", required=True)
_JSON = flags.DEFINE_string("json", None, "Also write the numbers to this file.")
_STEPS = flags.DEFINE_integer("steps", 50, "Sampling steps; even.", 2)
_EDITS = flags.DEFINE_integer("edits", 3, "Edits that count, per process.", 1)
_REPEATS = flags.DEFINE_integer("repeats", 1, "Processes per row and side.", 1)
_ROWS = flags.DEFINE_list("rows", ["sdedit", "sega", "ledits_pp", "edict"], "What to measure.")
_MASKS = flags.DEFINE_enum("masks", "both", ["both", "noise"], "The masks of LEDITS++.")
_EDICT = flags.DEFINE_string("edict", None, "diffusers' examples/community/edict_pipeline.py.")
_CHILD = flags.DEFINE_string("child", None, "SIDE,ROW: measure here.")

TEXTS = {"source": "a red bird", "target": "a blue bird", "concept": "blue"}
STRENGTH = {"sdedit": 0.6, "sega": 1.0, "ledits_pp": 1.0, "edict": 0.8}
SCALE, THRESHOLD = 5.0, 0.9
GUIDANCE = {"sdedit": 7.5, "sega": 7.5, "ledits_pp": 1.0, "edict": 3.0}

Edit = Callable[[int], np.ndarray]
"""(number of the edit, from which the picture is made) -> edited picture in [0, 1]."""


def picture(number: int, size: int) -> np.ndarray:
    """A smooth picture in [-1, 1], another one for each number."""
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin((number + 2) * (x + k * y)) for k in range(3)]
    return np.stack(waves, -1)[None].astype(np.float32)


def ours(row: str) -> tuple[Edit, int]:
    """Our edit, and the size of its pictures."""
    import jax

    from imagic_jax.backbones import registry
    from imagic_jax.backbones.generate import Sampling
    from imagic_jax.editors.contracts import Concept, Inputs
    from imagic_jax.editors.methods import METHODS

    loaded, method = registry.open_model(_FOLDER.value).load(), METHODS[row]
    cascade, params = loaded.cascade, loaded.params
    settings = {"attention_mask": _MASKS.value == "both"} if row == "ledits_pp" else {}
    config = method.config(**settings)
    sampling = Sampling(steps=(_STEPS.value,), guidance=(GUIDANCE[row],), batch=1)

    def encode(text: str) -> Any:
        return cascade.text.encode(params["text"], [text])

    def edit(number: int) -> np.ndarray:
        inputs = Inputs(
            jax.numpy.asarray(picture(number, cascade.size)),
            encode(TEXTS["target"]),
            encode(""),
            encode(TEXTS["source"]) if row == "edict" else None,
        )
        if row in ("sega", "ledits_pp"):
            cond, tokens = (
                encode(TEXTS["concept"])[0],
                cascade.text.own_tokens(TEXTS["concept"]),
            )
            concept = Concept(cond, scale=SCALE, threshold=THRESHOLD, warmup=0, tokens=tokens)
            inputs = inputs._replace(concepts=(concept,))
        args = (inputs, config, sampling)
        fit = method.fit(cascade, params, *args, jax.random.key(number))
        drawn = method.render(
            cascade, params, inputs, fit, config, sampling, (STRENGTH[row],), (number,)
        )
        return drawn[0, 0] / 2 + 0.5

    return edit, cascade.size


def pytorch(row: str) -> tuple[Edit, int]:
    """PyTorch diffusers' edit, and the size of its pictures."""
    import diffusers
    import torch

    torch.set_num_threads(machine()["cores"])
    about = json.loads((Path(_FOLDER.value) / "scheduler" / "scheduler_config.json").read_text())
    about = {k: v for k, v in about.items() if not k.startswith("_")} | {"clip_sample": False}
    name = {
        "sdedit": "StableDiffusionImg2ImgPipeline",
        "sega": "SemanticStableDiffusionPipeline",
        "ledits_pp": "LEditsPPPipelineStableDiffusion",
        "edict": "DiffusionPipeline",
    }[row]
    more: dict[str, Any] = {}
    if row == "edict" and _EDICT.value:  # code of the user's own choice, by --edict
        more = {"custom_pipeline": str(Path(_EDICT.value).resolve()), "trust_remote_code": True}
    solver = {"algorithm_type": "sde-dpmsolver++", "final_sigmas_type": "sigma_min"}
    second = row == "ledits_pp"
    kind = diffusers.DPMSolverMultistepScheduler if second else diffusers.DDIMScheduler
    scheduler = kind.from_config(about, **(solver if second else {}))
    optional = {} if row == "edict" else {"safety_checker": None, "feature_extractor": None}
    pipe = getattr(diffusers, name).from_pretrained(
        _FOLDER.value, scheduler=scheduler, **optional, **more
    )
    pipe.set_progress_bar_config(disable=True)
    size = pipe.unet.config.sample_size * 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    shared = {"guidance_scale": GUIDANCE[row], "num_inference_steps": _STEPS.value}
    concept = {
        "editing_prompt": [TEXTS["concept"]],
        "edit_guidance_scale": SCALE,
        "edit_threshold": THRESHOLD,
        "edit_warmup_steps": 0,
    }

    def edit(number: int) -> np.ndarray:
        image = torch.from_numpy(picture(number, size).transpose(0, 3, 1, 2).copy()) / 2 + 0.5
        torch.manual_seed(number)
        if row == "sdedit":
            strength = {"strength": STRENGTH[row], "output_type": "np"}
            return pipe(TEXTS["target"], image, **strength, **shared).images[0]
        if row == "sega":
            return pipe(TEXTS["target"], output_type="np", **concept, **shared).images[0]
        if row == "ledits_pp":
            pipe.invert(image, num_inversion_steps=_STEPS.value, skip=0.0)
            both = _MASKS.value == "both"
            masks = {"use_cross_attn_mask": both, "use_intersect_mask": both}
            return pipe(output_type="np", **masks, **concept).images[0]
        texts = (TEXTS["source"], TEXTS["target"])
        strength = {"strength": STRENGTH[row], "output_type": "np"}
        return pipe(*texts, image, **strength, **shared)[0]

    return edit, size


def child(side: str, row: str) -> dict[str, Any]:
    """Measures one row of one side in this process."""
    edit, size = {"pytorch": pytorch, "ours": ours}[side](row)
    began = time.perf_counter()
    edit(0)
    first = time.perf_counter() - began
    seconds, cpu, compiled = [], [], 0
    for number in range(1, _EDITS.value + 1):
        began, used = time.perf_counter(), time.process_time()
        if side == "ours":
            from imagic_jax.runtime.compilation import counted

            with counted() as seen:
                drawn = edit(number)
            compiled += seen.programs
        else:
            drawn = edit(number)
        seconds.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
        if drawn.shape != (size, size, 3) or not np.isfinite(drawn).all():
            raise SystemExit(f"{side} {row}: not a picture: {drawn.shape}")
    if compiled:
        raise SystemExit(f"{row}: ours compiled {compiled} programs in warm edits")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts KiB
    return {"s": seconds, "cpu_s": cpu, "first_s": first, "peak_gib": peak}


def measure(row: str) -> dict[str, Any]:
    """Both sides in turn: medians and their ratio."""
    runs: dict[str, list[dict[str, Any]]] = {"pytorch": [], "ours": []}
    here = [f"--folder={_FOLDER.value}", f"--steps={_STEPS.value}", f"--edits={_EDITS.value}"]
    here.append(f"--masks={_MASKS.value}")
    here += [f"--edict={_EDICT.value}"] if _EDICT.value else []
    for _ in range(_REPEATS.value):
        for side, rows in runs.items():
            rows.append(in_child(Path(__file__), *here, f"--child={side},{row}"))
    result: dict[str, Any] = {}
    for side, rows in runs.items():
        result[side] = {
            "s": round(statistics.median(s for r in rows for s in r["s"]), 3),
            "cpu_s": round(statistics.median(s for r in rows for s in r["cpu_s"]), 3),
            "all_s": [round(s, 3) for r in rows for s in r["s"]],
            "first_s": round(statistics.median(r["first_s"] for r in rows), 1),
            "peak_gib": round(max(r["peak_gib"] for r in rows), 2),
        }
    result["ratio"] = round(result["ours"]["s"] / result["pytorch"]["s"], 3)
    result["cpu_ratio"] = round(result["ours"]["cpu_s"] / result["pytorch"]["cpu_s"], 3)
    return result


def main(argv: list[str]) -> None:
    """Prints a line for each row."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if _CHILD.value:
        print(json.dumps(child(*_CHILD.value.split(","))))
        return
    facts, rows = machine(), {}
    for name in _ROWS.value:
        if name == "edict" and not _EDICT.value:
            print("edict: left out, see --edict")
            continue
        rows[name] = row = measure(name)
        mine, theirs = row["ours"], row["pytorch"]
        print(
            f"{name}: ours {mine['s']:.2f} s, PyTorch {theirs['s']:.2f} s, ratio "
            f"{row['ratio']:.2f} (by CPU time {row['cpu_ratio']:.2f}); first edit "
            f"{mine['first_s']:.1f} and {theirs['first_s']:.1f} s; peak {mine['peak_gib']:.1f} and "
            f"{theirs['peak_gib']:.1f} GiB",
            flush=True,
        )
    if _JSON.value:
        settings = {"steps": _STEPS.value, "edits": _EDITS.value, "masks": _MASKS.value}
        settings |= {"folder": Path(_FOLDER.value).name, "strength": STRENGTH}
        result = {"machine": facts, "settings": settings, "rows": rows}
        Path(_JSON.value).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
