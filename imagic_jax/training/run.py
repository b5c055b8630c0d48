"""One training run: build the task, go on from the last checkpoint, show, save, export."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from imagic_jax.backbones.codecs import Pixels
from imagic_jax.backbones.stages import LowRes, UNetStage
from imagic_jax.diffusion.schedule import Schedule
from imagic_jax.errors import UserError
from imagic_jax.flatland import captions
from imagic_jax.models import T5Config, T5Encoder, UNet2DCondition, UNetConfig
from imagic_jax.runtime import loop
from imagic_jax.runtime.checkpoint import Checkpoints
from imagic_jax.runtime.interrupt import Interrupted, StopFlag
from imagic_jax.runtime.loop import Chunk, LoopState
from imagic_jax.runtime.progress import Reporter
from imagic_jax.training import sheets
from imagic_jax.training.data import CLASSES, NAMED_SIZES, caption_table
from imagic_jax.training.export import NOISING, commit, export_stage, export_text
from imagic_jax.training.tasks import StageTask, Task, TextTask
from imagic_jax.training.trainer import Recipe, TrainData, TrainStep, init_state
from imagic_jax.typing import Params
from imagic_jax.weights import load_part
from imagic_jax.weights.tokenizer import Tokenizer, save_word_level


def train(
    config: Mapping[str, Any], model: Path, run: Path, reporter: Reporter, stop: StopFlag
) -> None:
    """Trains one stage and exports its averaged weights into the cascade folder `model`.

    Args:
        config: see configs/train/.
        model: the cascade's folder; a super-resolution stage reads its text encoder from there.
        run: where checkpoints, the log and sample sheets go; an interrupted run goes on.

    Raises:
        UserError: the run folder belongs to another config, or the text encoder is missing.
        Interrupted: stopped on request; the state is saved.
    """
    _check_same(run, config)
    tokenizer = _tokenizer(model, config)
    task, frozen = build_task(config, model)
    recipe = Recipe(**config["recipe"])
    table = caption_table(tokenizer, config["captions"], config["seed"])
    init_key, draw_key = jax.random.split(jax.random.key(config["seed"]))
    state = LoopState(0, init_state(task, recipe, init_key, table))
    with Checkpoints(run / "checkpoints") as saved:
        if (step := saved.latest_step()) is not None:
            state = LoopState(step, saved.restore(state.value))
            reporter.say(f"going on from step {step}")
        watch = _Watch(task, table, tokenizer, frozen, recipe, run, saved, config, reporter, stop)
        data = TrainData(table, frozen, draw_key)
        state = loop.run(
            TrainStep(task, recipe), state, data, recipe.steps, chunk_seconds=10.0, on_chunk=watch
        )
        watch.save(state)
    training = {
        "commit": commit(),
        "config": config["name"],
        "seed": config["seed"],
        "steps": recipe.steps,
        "examples": recipe.steps * task.batch,
        "hours": round(_seconds(run) / 3600, 2),
        "device": jax.devices()[0].device_kind,
    }
    averaged = jax.device_get(state.value["ema"])
    if config["kind"] == "text":
        export_text(model, config, averaged["text"], training)
    else:
        export_stage(model, config, averaged["unet"], training)
    reporter.say(f"wrote {model}")


def build_task(config: Mapping[str, Any], model: Path) -> tuple[Task, Params | None]:
    """The task of a training config, and the frozen text encoder's parameters, if any."""
    options = dict(config["data"])
    if options["batch"] < 1 or options["batch"] % CLASSES:
        raise UserError(
            f"config.data.batch must be a multiple of the {CLASSES} classes, got {options['batch']}"
        )
    if config["kind"] == "text":
        text = T5Encoder(T5Config.from_dict(config["text"]))
        return TextTask(text=text, sizes=NAMED_SIZES, **options), None
    folder = model / config["base"] / "text_encoder"
    if not folder.is_dir():
        raise UserError(f"{folder} is missing: train the text encoder first, or give --model")
    text, frozen = load_part(folder)
    if not isinstance(text, T5Encoder):
        raise UserError(f"{folder} is no T5 encoder")
    row = config["stage"]
    low_res = None
    if "low_res" in row:
        low_res = LowRes(schedule=Schedule.from_config(NOISING), **row["low_res"])
    unet = UNet2DCondition(UNetConfig.from_dict(config["unet"]))
    codec, schedule = Pixels(unet.config.patch_size), Schedule.from_config(config["scheduler"])
    stage = UNetStage(row["name"], row["size"], unet, schedule, codec, low_res)
    return StageTask(stage=stage, text=text, **options), frozen


def _tokenizer(model: Path, config: Mapping[str, Any]) -> Tokenizer:
    folder = model / config["base"] / "tokenizer"
    if not (folder / "tokenizer.json").is_file():
        save_word_level(folder, captions.vocabulary(), config["max_length"])
    return Tokenizer.load(folder)


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


def _seconds(run: Path) -> float:
    """Wall seconds of all chunks of the run, over all its sessions."""
    lines = (run / "log.jsonl").read_text().splitlines()
    return sum(json.loads(line)["seconds"] for line in lines)


class _Watch:
    """The per-chunk callback: progress, log, checkpoints, sample sheets, stopping."""

    def __init__(
        self, task, table, tokenizer, frozen, recipe, run, saved, config, reporter, stop
    ) -> None:
        self._task, self._table, self._frozen = task, table, frozen
        self._tokens = (tokenizer(sheets.CAPTIONS), tokenizer([""]))
        self._run, self._saved, self._stop, self._config = run, saved, stop, config
        step = saved.latest_step() or 0
        self._progress = reporter.stage(config["name"], recipe.steps, step)
        self._saved_step, self._saved_at = step, time.monotonic()
        self._sheet_at = 0.0

    def __call__(self, chunk: Chunk) -> None:
        step, now = chunk.state.step, time.monotonic()
        loss = float(np.mean(chunk.losses))
        self._progress.update(step, len(chunk.losses), chunk.seconds, loss)
        with (self._run / "log.jsonl").open("a") as log:
            log.write(json.dumps({"step": step, "loss": loss, "seconds": chunk.seconds}) + "\n")
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
        if not isinstance(self._task, StageTask):
            return
        ema = state.value["ema"]
        drawn = sheets.sheet(self._task, ema, self._frozen, self._table, self._tokens)
        folder = self._run / "sheets"
        folder.mkdir(exist_ok=True)
        drawn.save(folder / f"{state.step:07d}.png")
