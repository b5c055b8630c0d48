"""Imagic's whole edit on the shipped latent model on CPU: ours against a PyTorch loop.

    python benchmarks/peer.py --json=benchmarks/results/peer-cpu.json

The PyTorch side does what the public diffusers community pipeline `imagic_stable_diffusion` does:
Adam on the text states, Adam on the whole UNet, one noise draw per step, float32, then guided DDIM
and the decoder; on the model's own target and weights of the loss. Both sides open the same folder
and do the same numbers of steps. Each is a child process of its own, in turn, which edits once for
nothing (ours compiles) and then a few times against the clock. Goals: ratio at most 1 for every
stage, and whole edits 1.5 times as fast.

The sides draw their noise from generators of their own, so what is compared of the results is the
latent and a prediction at fixed inputs, which must agree, and the PSNR of what comes back at
eta = 0, which is told.
"""

import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from PIL import Image as pil
from sd15 import HERE, in_child, machine

_MODEL = flags.DEFINE_string(
    "model",
    str(HERE.parent / "imagic_jax" / "_models" / "flatland-sd"),
    "Folder of a Stable Diffusion, as diffusers and `imagic convert` write it.",
)
_IMAGE = flags.DEFINE_string("image", str(HERE.parent / "examples" / "bird.png"), "The picture.")
_TEXT = flags.DEFINE_string("text", "a bird spreading its wings", "What it shall show.")
_SIZE = flags.DEFINE_integer("size", 64, "Pixels per side.", 8)
_EMBEDDING = flags.DEFINE_integer("embedding_steps", 500, "Steps on the text states.", 1)
_TUNING = flags.DEFINE_integer("tuning_steps", 500, "Steps on the UNet.", 1)
_SAMPLING = flags.DEFINE_integer("sampling_steps", 50, "DDIM steps.", 1)
_EDITS = flags.DEFINE_integer("edits", 3, "Edits against the clock, per process.", 1)
_REPEATS = flags.DEFINE_integer("repeats", 3, "Processes per side.", 1)
_JSON = flags.DEFINE_string("json", None, "Also write the numbers to this file.")
_CHILD = flags.DEFINE_string("child", None, "SIDE,FILE: edit here, with the picture in FILE.")

RATES = {"embedding": 1e-2, "tuning": 2e-4}
GUIDANCE, ETA = 4.0, 1.0
T = 501  # of the prediction that both sides must agree on
STAGES = ("text", "encode", "embed", "tune", "sample", "decode")

Clock = Callable[[str], None]
"""Called at the end of a stage."""


def square() -> np.ndarray:
    """The picture: (size, size, 3) in [-1, 1]."""
    picture = pil.open(_IMAGE.value).convert("RGB").resize((_SIZE.value, _SIZE.value))
    return np.asarray(picture, np.float32) / 127.5 - 1.0


def fixed_noise(shape: tuple[int, ...]) -> np.ndarray:
    """Noise for the prediction to agree on."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


class Pytorch:
    """The loop of the public pipeline, with diffusers' modules."""

    def __init__(self, picture: np.ndarray):
        import torch
        from diffusers import DDIMScheduler, StableDiffusionPipeline

        torch.set_num_threads(machine()["cores"])
        torch.manual_seed(0)
        self._pipe = StableDiffusionPipeline.from_pretrained(
            _MODEL.value, torch_dtype=torch.float32, safety_checker=None
        )
        self._pipe.scheduler = DDIMScheduler.from_config(self._pipe.scheduler.config)
        self._weights = {k: v.clone() for k, v in self._pipe.unet.state_dict().items()}
        self._picture = torch.from_numpy(picture).permute(2, 0, 1)[None]
        self._loss_weight = torch.from_numpy(self._weights_of_the_loss())

    def _weights_of_the_loss(self) -> np.ndarray:
        """By timestep: 1, or what `max_loss_weight` in the scheduler's file makes of it."""
        path = Path(_MODEL.value, "scheduler", "scheduler_config.json")
        most = json.loads(path.read_text()).get("max_loss_weight")
        abar = self._pipe.scheduler.alphas_cumprod.numpy().astype(np.float64)
        weights = np.ones_like(abar) if most is None else np.minimum(1.0, most * (1.0 - abar))
        return weights.astype(np.float32)

    def _encoded(self, text: str) -> Any:
        given = self._pipe.tokenizer(
            text, padding="max_length", truncation=True, return_tensors="pt"
        )
        return self._pipe.text_encoder(given.input_ids)[0]

    def _latent(self) -> Any:
        vae = self._pipe.vae
        return vae.encode(self._picture).latent_dist.mode() * vae.config.scaling_factor

    def facts(self) -> dict[str, float]:
        """What both sides must agree on."""
        import torch

        with torch.no_grad():
            x0, text = self._latent(), self._encoded(_TEXT.value)
            noise = torch.from_numpy(fixed_noise((1, *x0.shape[2:], x0.shape[1])))
            x_t = self._pipe.scheduler.add_noise(x0, noise.permute(0, 3, 1, 2), torch.tensor([T]))
            out = self._pipe.unet(x_t, T, text).sample
        return {"latent": float(x0.abs().mean()), "prediction": float(out.abs().mean())}

    def _loss(self, x0: Any, text: Any) -> Any:
        import torch

        scheduler = self._pipe.scheduler
        noise = torch.randn(x0.shape)
        t = torch.randint(scheduler.config.num_train_timesteps, (1,))
        out = self._pipe.unet(scheduler.add_noise(x0, noise, t), t, text).sample
        target = noise
        if scheduler.config.prediction_type == "v_prediction":
            target = scheduler.get_velocity(x0, noise, t)
        each = torch.nn.functional.mse_loss(out, target, reduction="none").mean((1, 2, 3))
        return (each * self._loss_weight[t]).mean()

    def _optimise(self, trained: Any, rate: float, steps: int, loss: Callable[[], Any]) -> None:
        import torch

        optimizer = torch.optim.Adam(trained, lr=rate)
        for _ in range(steps):
            value = loss()
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
            value.detach().item()  # the public loop shows it

    def edit(self, embedding: int, tuning: int, sampling: int, done: Clock) -> np.ndarray:
        """One edit; the pictures at eta 0 and at `ETA`, of which the clock sees the latter."""
        import torch

        unet = self._pipe.unet
        unet.load_state_dict(self._weights)  # the public loop would go on from the last picture's
        done("reset")
        with torch.no_grad():
            target, null = self._encoded(_TEXT.value), self._encoded("")
            done("text")
            x0 = self._latent()
            done("encode")
        unet.requires_grad_(False).eval()
        states = target.clone().requires_grad_()
        loss = functools.partial(self._loss, x0, states)
        self._optimise([states], RATES["embedding"], embedding, loss)
        states = states.detach()
        done("embed")
        unet.requires_grad_(True).train()
        loss = functools.partial(self._loss, x0, states)
        self._optimise(unet.parameters(), RATES["tuning"], tuning, loss)
        unet.eval()
        done("tune")
        edited = self._draw(ETA * target + (1 - ETA) * states, null, sampling, done)
        return np.stack([self._draw(states, null, sampling, lambda _: None), edited])

    def _draw(self, states: Any, null: Any, steps: int, done: Clock) -> np.ndarray:
        import torch

        pipe = self._pipe
        with torch.no_grad():
            x = torch.randn(self._latent_shape())
            pipe.scheduler.set_timesteps(steps)
            both = torch.cat([null, states])
            for t in pipe.scheduler.timesteps:
                without, told = pipe.unet(torch.cat([x, x]), t, both).sample.chunk(2)
                out = without + GUIDANCE * (told - without)
                x = pipe.scheduler.step(out, t, x).prev_sample
            done("sample")
            picture = pipe.vae.decode(x / pipe.vae.config.scaling_factor).sample
            done("decode")
        return picture[0].permute(1, 2, 0).clamp(-1, 1).numpy()

    def _latent_shape(self) -> tuple[int, ...]:
        side = _SIZE.value // self._pipe.vae_scale_factor
        return (1, self._pipe.unet.config.in_channels, side, side)


class Ours:
    """The functions that `imagic edit` calls."""

    def __init__(self, picture: np.ndarray):
        import jax.numpy as jnp

        from imagic_jax.backbones import registry

        loaded = registry.open_model(_MODEL.value, _SIZE.value).load()
        self._cascade, self._params = loaded.cascade, loaded.params
        self._image = jnp.asarray(picture)[None]

    def facts(self) -> dict[str, float]:
        """What both sides must agree on."""
        import jax
        import jax.numpy as jnp

        stage: Any = self._cascade.stages[0]
        params = self._params["stages"][0]
        (cond,) = self._cascade.text.encode(self._params["text"], [_TEXT.value])
        x0 = stage.prepare(params, self._image)
        t, noise = jnp.array([T]), jnp.asarray(fixed_noise(x0.shape))
        abar = jnp.float32(stage.schedule.alphas_cumprod()[T])
        x_t = jnp.sqrt(abar) * x0 + jnp.sqrt(1 - abar) * noise
        network = jax.jit(stage.unet.apply)
        out = network({"params": params["unet"]}, x_t, t, cond.states)
        return {"latent": float(jnp.abs(x0).mean()), "prediction": float(jnp.abs(out).mean())}

    def edit(self, embedding: int, tuning: int, sampling: int, done: Clock) -> np.ndarray:
        """One edit; the pictures at eta 0 and at `ETA`, of which the clock sees the latter."""
        import jax

        from imagic_jax.backbones.generate import Sampling
        from imagic_jax.editors import imagic
        from imagic_jax.jobs import parts

        stage, params = self._cascade.stages[0], self._params["stages"][0]
        (cond,), (null,) = jax.block_until_ready(
            [self._cascade.text.encode(self._params["text"], [t]) for t in (_TEXT.value, "")]
        )
        done("text")
        picture = jax.block_until_ready(imagic.picture_for(stage, params, self._image))
        done("encode")
        config = imagic.EmbeddingConfig(steps=embedding, learning_rate=RATES["embedding"])
        state = imagic.embed(stage, params, picture, cond, config, jax.random.key(0))
        opt = jax.block_until_ready(imagic.optimised(cond, state))
        done("embed")
        config = imagic.TuningConfig(steps=tuning, learning_rate=RATES["tuning"])
        state = imagic.tune(stage, params, picture, opt, null, config, jax.random.key(1))
        delta = jax.block_until_ready(state.value["trainable"])
        done("tune")
        fit = imagic.Fit((imagic.StageFit(cond, opt, delta),), (null,))
        how = Sampling(steps=(sampling,), guidance=(GUIDANCE,), batch=1)
        edited = imagic.render(self._cascade, self._params, fit, [ETA], [0], how)
        done("sample")  # and decode, in one program: decoding by itself is taken out of it
        jax.block_until_ready(parts.finish(stage, params, picture.x0))
        done("decode")
        back = imagic.render(self._cascade, self._params, fit, [0.0], [0], how)
        return np.concatenate([back[0], edited[0]])


def timed(edit: Callable[..., np.ndarray], steps: tuple[int, int, int]) -> tuple[dict, np.ndarray]:
    """Seconds of the stages of one edit, and its pictures."""
    seconds, last = {}, time.perf_counter()

    def done(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[stage], last = now - last, now

    pictures = edit(*steps, done)
    return seconds, pictures


def child(side: str, file: Path) -> dict[str, Any]:
    """Edits in this process: seconds of each stage of each edit, the first apart."""
    picture = np.load(file)
    machinery = {"pytorch": Pytorch, "ours": Ours}[side](picture)
    steps = (_EMBEDDING.value, _TUNING.value, _SAMPLING.value)
    facts = machinery.facts()
    first, _ = timed(machinery.edit, (2, 2, 2))
    edits, pictures = [], np.empty(0)
    for _ in range(_EDITS.value):
        seconds, pictures = timed(machinery.edit, steps)
        if side == "ours":  # its "sample" ends in what "decode" did once more
            seconds["sample"] -= seconds["decode"]
        edits.append(seconds)
    error = float(np.square(pictures[0] - picture).mean())
    return {"facts": facts, "first": first, "edits": edits, "psnr": 10 * np.log10(4 / error)}


def measured(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of one side over its processes and edits: per step where there are steps."""
    steps = {"embed": _EMBEDDING.value, "tune": _TUNING.value, "sample": _SAMPLING.value}
    edits = [e for run in runs for e in run["edits"]]
    row = {
        stage: statistics.median(e[stage] for e in edits) / steps.get(stage, 1) for stage in STAGES
    }
    whole = [sum(e[stage] for stage in STAGES) for e in edits]
    return {
        **{stage: float(f"{s:.4g}") for stage, s in row.items()},
        "edit": round(statistics.median(whole), 3),
        "all_edits": [round(s, 3) for s in whole],
        "first_edit_of_two_steps": round(
            statistics.median(sum(run["first"].values()) for run in runs), 1
        ),
        "psnr_at_eta_0": round(statistics.median(run["psnr"] for run in runs), 2),
    }


def agree(runs: dict[str, list[dict[str, Any]]]) -> None:
    """Raises SystemExit where the sides disagree about the latent or the prediction."""
    theirs, mine = (runs[side][0]["facts"] for side in ("pytorch", "ours"))
    for name, value in theirs.items():
        if not np.isclose(value, mine[name], rtol=1e-3):
            raise SystemExit(f"the sides disagree about the {name}: {value} and {mine[name]}")


def main(argv: list[str]) -> None:
    """Prints a line for each stage, and one for the whole."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if _CHILD.value:
        side, file = _CHILD.value.split(",", 1)
        print(json.dumps(child(side, Path(file))))
        return
    facts, names = machine(), ("model", "text", "size", "embedding_steps", "tuning_steps")
    options = {n: flags.FLAGS[n].value for n in (*names, "sampling_steps", "edits")}
    runs: dict[str, list[dict[str, Any]]] = {"pytorch": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "picture.npy")
        np.save(file, square())
        for _ in range(_REPEATS.value):
            for side, results in runs.items():
                given = [f"--{n}={v}" for n, v in options.items()]
                results.append(in_child(Path(__file__), *given, f"--child={side},{file}"))
    agree(runs)
    sides = {side: measured(results) for side, results in runs.items()}
    theirs, mine = sides["pytorch"], sides["ours"]
    ratios = {s: round(mine[s] / theirs[s], 3) for s in (*STAGES, "edit")}
    for stage, ratio in ratios.items():
        kind = "step" if stage in ("embed", "tune", "sample") else "whole"
        print(f"{stage} ({kind}): ours {mine[stage]:.4g} s, PyTorch {theirs[stage]:.4g} s,", end="")
        print(f" ratio {ratio:.2f}")
    print(f"the edit is {1 / ratios['edit']:.2f} times as fast")
    if _JSON.value:
        options["model"] = Path(_MODEL.value).name
        result = {"machine": facts, "options": options, **sides, "ratios": ratios}
        Path(_JSON.value).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
