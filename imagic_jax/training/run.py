"""One training run: build the task, go on from the last checkpoint, show, save, export."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from imagic_jax.backbones.priors import save_prior
from imagic_jax.errors import UserError
from imagic_jax.runtime import lanes, loop
from imagic_jax.runtime.checkpoint import Checkpoints
from imagic_jax.runtime.interrupt import Interrupted, StopFlag
from imagic_jax.runtime.loop import Chunk, LoopState
from imagic_jax.runtime.mesh import AXES, make_meshes, parse_mesh
from imagic_jax.runtime.progress import Reporter
from imagic_jax.training import measure
from imagic_jax.training.build import build_task, open_tokenizer
from imagic_jax.training.clip_task import ClipTask
from imagic_jax.training.data import CaptionTable, caption_table
from imagic_jax.training.export import commit, export_stage, export_text
from imagic_jax.training.export_latent import export_clip, export_latent, export_vae
from imagic_jax.training.replay import draw_prior
from imagic_jax.training.sheets import Artist
from imagic_jax.training.tasks import StageTask, Task, TextTask
from imagic_jax.training.trainer import Recipe, TrainData, TrainStep, init_state
from imagic_jax.training.vae_task import VaeTask
from imagic_jax.training.warm_start import copy_model, open_start
from imagic_jax.typing import Params
from imagic_jax.weights.tokenizer import Tokenizer


def train(
    config: Mapping[str, Any],
    model: Path,
    run: Path,
    reporter: Reporter,
    stop: StopFlag,
    mesh: str | None = None,
) -> None:
    """Trains one part of a model and exports its averaged weights into the folder `model`.

    Args:
        config: see configs/train/; besides, `start_from` may name a model to go on from, see
            `warm_start`.
        model: the model's folder; what a part reads of others must be there.
        run: where checkpoints, the log and sample sheets go; an interrupted run goes on.
        mesh: devices that divide each batch, as "sample:4"; one device where it is left out.

    Raises:
        UserError: the run folder belongs to another config, what must come first is missing, or
            there are no such devices.
        Interrupted: stopped on request; the state is saved.
    """
    devices = _devices(mesh, config["data"]["batch"])
    name = config.get("start_from")
    start = open_start(name, config, model) if name else None
    _check_same(run, config)
    if start is not None:
        copy_model(start, model)
    task, frozen = build_task(config, model)
    tokenizer = open_tokenizer(config, model)
    recipe = Recipe(**config["recipe"])
    table = caption_table(tokenizer, config["captions"], config["seed"])
    init_key, draw_key = jax.random.split(jax.random.key(config["seed"]))
    state = LoopState(0, init_state(task, recipe, init_key, table))
    if start is not None:
        state.value.update(start.params())
        draw_key = jax.random.fold_in(draw_key, start.steps)  # what it has seen is over
    with Checkpoints(run / "checkpoints") as saved:
        if (step := saved.latest_step()) is not None:
            state = LoopState(step, saved.restore(state.value))
            reporter.say(f"going on from step {step}")
        artist = Artist(task, frozen, table, tokenizer)
        watch = _Watch(artist, recipe, run, saved, config, reporter, stop)
        data = TrainData(table, frozen, draw_key)
        if devices is not None:
            value, data = lanes.share((state.value, data), devices)
            state = state._replace(value=value)
        step = TrainStep(task, recipe, devices.abstract_mesh if devices is not None else None)
        state = loop.run(step, state, data, recipe.steps, chunk_seconds=10.0, on_chunk=watch)
        watch.save(state)
    log = _log(run)
    training = {
        "commit": log[-1].get("commit", "unknown") if log else commit(),  # of its last steps
        "config": config["name"],
        "seed": config["seed"],
        "steps": recipe.steps,
        "examples": recipe.steps * task.batch,
        "hours": round(sum((c["seconds"] for c in log), 0.0) / 3600, 2),
        "device": jax.devices()[0].device_kind,
    }
    if "mark_share" in config["data"]:
        training["mark_share"] = config["data"]["mark_share"]  # what readers of its samples expect
    if start is not None:
        training["started_from"] = start.training
    averaged = jax.tree.map(jnp.asarray, jax.device_get(state.value["ema"]))
    _export(config, model, task, frozen, table, tokenizer, averaged, training)
    reporter.say(f"wrote {model}")


def _export(
    config: Mapping[str, Any],
    model: Path,
    task: Task,
    frozen: Any,
    table: CaptionTable,
    tokenizer: Tokenizer,
    averaged: Params,
    training: dict[str, Any],
) -> None:
    """Writes what was trained, and beside it what it is worth where that is quickly told."""
    match task:
        case TextTask():
            export_text(model, config, averaged["text"], training)
        case ClipTask():
            training |= {"told_apart": measure.pair(task, averaged["clip"], tokenizer)}
            export_clip(model, config, averaged["clip"], training)
        case VaeTask():
            key = jax.random.key(config["seed"] + 1)
            found = measure.autoencoder(task, averaged["vae"], table, key)
            training |= {"psnr": round(found["psnr"], 2)}
            export_vae(model, config, averaged["vae"], training, 1.0 / found["deviation"])
        case _:
            latent = config["kind"] == "latent"
            export = export_latent if latent else export_stage
            export(model, config, averaged["unet"], training)
            if isinstance(task, StageTask) and task.stage.low_res is None:
                prior = draw_prior(task, frozen, tokenizer)
                save_prior(model if latent else model / config["stage"]["name"], prior)


def _devices(mesh: str | None, batch: int) -> Mesh | None:
    """The devices that divide each batch; None for one device.

    Raises:
        UserError: other axes than `sample`, too few devices, or a batch that they do not divide.
    """
    if mesh is None:
        return None
    sizes = parse_mesh(mesh)
    count = sizes["sample"]
    if any(sizes[axis] > 1 for axis in AXES if axis != "sample"):
        raise UserError(f"--mesh={mesh}: training divides its batches alone; write --mesh=sample:N")
    if batch % count:
        raise UserError(f"--mesh={mesh}: {count} devices do not divide a batch of {batch} evenly")
    return make_meshes(sizes)[0]


def _check_same(run: Path, config: Mapping[str, Any]) -> None:
    """Keeps one config per run folder; only the length of the run may change."""
    path = run / "config.json"
    plain = json.loads(json.dumps(config))
    if path.is_file():
        before = json.loads(path.read_text())
        for c in (before, plain):
            c["recipe"] = {k: v for k, v in c["recipe"].items() if k != "steps"}
        if before != plain:
            raise UserError(f"{run} holds another training run; choose another --out")
        return
    run.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config, indent=2) + "\n")


def _log(run: Path) -> list[dict[str, Any]]:
    """All chunks of the run, over all its sessions; none of a run without steps."""
    log = run / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


class _Watch:
    """The per-chunk callback: progress, log, checkpoints, sample sheets, stopping."""

    def __init__(self, artist, recipe, run, saved, config, reporter, stop) -> None:
        self._artist, self._run, self._saved = artist, run, saved
        self._stop, self._config = stop, config
        self._commit = commit()
        step = saved.latest_step() or 0
        self._progress = reporter.stage(config["name"], recipe.steps, step)
        self._saved_step, self._saved_at = step, time.monotonic()
        self._sheet_at = 0.0

    def __call__(self, chunk: Chunk) -> None:
        step, now = chunk.state.step, time.monotonic()
        loss = float(np.mean(chunk.losses))
        self._progress.update(step, len(chunk.losses), chunk.seconds, loss)
        line = {"step": step, "loss": loss, "seconds": chunk.seconds, "commit": self._commit}
        with (self._run / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        finished = step == chunk.total
        if now - self._saved_at > self._config["save_every"] or self._stop or finished:
            self.save(chunk.state)
        if now - self._sheet_at > self._config["sheet_every"] or finished:
            self._sheet(chunk.state)
        if self._stop and not finished:
            raise Interrupted(f"stopped at step {step} of {chunk.total}; {self._run} is kept")

    def save(self, state: LoopState) -> None:
        if state.step != self._saved_step:
            self._saved.save(state.step, state.value)
        self._saved_step, self._saved_at = state.step, time.monotonic()

    def _sheet(self, state: LoopState) -> None:
        self._sheet_at = time.monotonic()
        drawn = self._artist.sheet(jax.device_get(state.value["ema"]))
        if drawn is not None:
            folder = self._run / "sheets"
            folder.mkdir(exist_ok=True)
            drawn.save(folder / f"{state.step:07d}.png")
