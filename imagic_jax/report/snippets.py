"""The README of a converted fit: what lies in the folder, and PyTorch code that draws with it."""

import dataclasses
import textwrap
from collections.abc import Sequence

_PIPELINES = {
    "sd": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "x4": "StableDiffusionUpscalePipeline",
    "if": "IFPipeline",
    "if_sr": "IFSuperResolutionPipeline",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageNote:
    """What the code needs to know of a stage.

    Attributes:
        name: of its embeddings.
        folder: of the model to open, in the converted folder ("" is that itself).
        elsewhere: `folder` is a place of its own instead, that of a LoRA's base model.
        family: what `registry.family_of` says.
        size: pixels per side.
        steps, guidance: how it is drawn.
        lora: its LoRA's folder in the converted folder, None where there is none.
        level: noise that its low-resolution picture gets.
        patch: pixels per side that it moves to channels.
    """

    name: str
    folder: str
    family: str
    size: int
    steps: int
    guidance: float
    elsewhere: bool = False
    lora: str | None = None
    level: int | None = None
    patch: int = 1


def readme(text: str, stages: Sequence[StageNote], files: Sequence[str]) -> str:
    """README.md of a converted fit.

    Args:
        text: what the picture was edited to show.
        stages: small to large.
        files: what lies in the folder, one line each.
    """
    listed = "\n".join(f"* {line}" for line in files)
    return f"""# A picture fitted to “{text}”

Made by `imagic convert` (Imagic, arXiv:2210.09276), for PyTorch diffusers.

{listed}

Draw with it; eta = 0 gives the picture back, 1 follows the text, 0.6 to 0.8 usually does both:

```python
{code(stages)}
```
"""


def code(stages: Sequence[StageNote]) -> str:
    """A short PyTorch program that interpolates the embeddings and draws."""
    if stages[0].patch > 1:
        return _patched(stages[0])
    names = sorted({"DDIMScheduler", *(_PIPELINES[s.family] for s in stages)})
    parts = [_head(names, stages[0])]
    parts += [_drawn(s, last=s is stages[-1]) for s in stages]
    return "\n".join([*parts, 'image[0].save("edited.png")'])


def _head(names: Sequence[str], base: StageNote) -> str:
    listed = ", ".join(names)
    imports = f"from diffusers import {listed}"
    if len(imports) > 100:
        imports = "from diffusers import (\n" + "".join(f"    {n},\n" for n in names) + ")"
    return f"""import torch
{imports}
from safetensors.torch import load_file

folder, eta = ".", 0.7
e = load_file(f"{{folder}}/imagic_embeddings.safetensors")
prompt = eta * e["{base.name}.target"] + (1 - eta) * e["{base.name}.optimised"]
"""


def _place(stage: StageNote, part: str = "") -> str:
    """A stage's folder, or one of its parts, as Python says it."""
    path = "/".join(p for p in (stage.folder, part) if p)
    if stage.elsewhere:
        return repr(path)
    return f'f"{{folder}}/{path}"' if path else "folder"


def _lora_place(stage: StageNote) -> str:
    """The folder of a stage's LoRA, as Python says it."""
    return f'f"{{folder}}/{stage.lora}"' if stage.lora else "folder"


def _opened(stage: StageNote) -> str:
    """The lines that open a stage's pipeline."""
    lines = [
        f"pipe = {_PIPELINES[stage.family]}.from_pretrained(",
        f"    {_place(stage)}, torch_dtype=torch.float32",
        ")",
    ]
    if stage.lora is not None:
        lines.append(f"pipe.load_lora_weights({_lora_place(stage)})")
    pixels = stage.family in ("if", "if_sr")
    config = "pipe.scheduler.config"
    if pixels:  # DDIM knows no learned variance, and keeps what it does not know
        config = '{**pipe.scheduler.config, "variance_type": "fixed_small"}'
    elif stage.family != "x4":  # latents reach beyond [-1, 1]
        config = "pipe.scheduler.config, clip_sample=False"
    lines.append(f"pipe.scheduler = DDIMScheduler.from_config({config})")
    return "\n".join(lines)


def _drawn(stage: StageNote, *, last: bool) -> str:
    """The lines that open and run one stage."""
    first = stage.level is None
    given = [] if first else ["image=image"]
    given.append("prompt_embeds=" + ("prompt" if first else f'e["{stage.name}.target"]'))
    given.append(f'negative_prompt_embeds=e["{stage.name}.null"]')
    if stage.family == "sdxl":
        given.append(f'pooled_prompt_embeds=e["{stage.name}.target_pooled"]')
        given.append(f'negative_pooled_prompt_embeds=e["{stage.name}.null_pooled"]')
    if stage.family in ("sd", "sdxl"):
        given.append(f"height={stage.size}, width={stage.size}")
    if not first:
        given.append(f"noise_level={stage.level}")
    given.append(f"guidance_scale={stage.guidance:g}, num_inference_steps={stage.steps}")
    given.append("generator=torch.Generator().manual_seed(0)")
    if not last:
        given.append('output_type="pt"')
    arguments = textwrap.indent("".join(f"{g},\n" for g in given), "    ")
    return f"{_opened(stage)}\nimage = pipe(\n{arguments}).images\n"


def _patched(base: StageNote) -> str:
    """The base alone, step by step: its UNet sees pixels moved to channels."""
    lora = ""
    if base.lora is not None:
        file = "pytorch_lora_weights.safetensors"
        lora = f"""unet.load_lora_adapter(
    {_lora_place(base)}, weight_name="{file}", prefix="unet"
)
"""
    return f"""{_head(["DDIMScheduler", "UNet2DConditionModel"], base)}
unet = UNet2DConditionModel.from_pretrained({_place(base, "unet")})
{lora}scheduler = DDIMScheduler.from_pretrained({_place(base, "scheduler")})
scheduler.set_timesteps({base.steps})
side = unet.config.sample_size
x = torch.randn(1, unet.config.in_channels, side, side, generator=torch.manual_seed(0))
for t in scheduler.timesteps:
    with torch.no_grad():
        null = unet(x, t, encoder_hidden_states=e["{base.name}.null"]).sample
        told = unet(x, t, encoder_hidden_states=prompt).sample
    guided = null + {base.guidance:g} * (told - null)
    x = scheduler.step(guided, t, x, use_clipped_model_output=True).prev_sample
image = torch.nn.functional.pixel_shuffle(x, {base.patch})  # (1, 3, {base.size}, {base.size}), \
[-1, 1]"""
