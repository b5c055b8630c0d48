"""Imagic: text-based editing of one real picture (Kawar et al. 2023, arXiv:2210.09276).

    A. embed    e_opt = argmin_e  E |target - f_theta(x_t, t, e)|^2, starting from e_tgt, few steps
    B. tune     theta* = argmin_theta of the same loss at e_opt; super-resolution stages at e_tgt
    C. render   sample theta* at e = eta e_tgt + (1 - eta) e_opt, then the super-resolution stages

eta = 0 gives the picture back, eta = 1 follows the text; 0.6-0.8 is the paper's working range.
Every function is pure: parameters come in, new values go out. Resuming hands a `LoopState` back in.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from imagic_jax.backbones import adapters
from imagic_jax.backbones.adapters import Trainable, TrainSpec
from imagic_jax.backbones.contracts import Cascade, Cond, Prior, Stage, repeat
from imagic_jax.backbones.generate import Sampling, generate
from imagic_jax.runtime import loop
from imagic_jax.runtime.loop import Chunk, LoopState
from imagic_jax.typing import Image, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """Stage A. `batch` is the number of (t, eps) draws per step (the paper's setting is 1)."""

    steps: int = 100
    learning_rate: float = 1e-3
    batch: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """Stage B, for one stage of the cascade.

    `train` is a pattern over parameter paths and `rank` that of LoRA, see `adapters.TrainSpec`.
    `dropout` is the share of draws that see the empty text, as in the models' own training (Ho &
    Salimans 2022): then what no text names is remembered beside the empty text too, and guidance
    away from it does not push the picture away. The paper does not say; 0 draws with e_opt alone.

    `prior_batch` is the number of draws per step that keep what the model knows: on pictures and
    texts of its own (its `Prior`), noised, the tuned parameters shall answer as they did before,
    with `prior_weight` times the weight of the picture (learning without forgetting, Li & Hoiem
    2016; DreamBooth keeps a class by its own samples, Ruiz et al. 2023, eq. 2). Without, as in the
    paper, the model unlearns what the target asks for while it learns the picture. `prior_from` is
    the share of the timesteps, those of little noise, that are free of this: what is drawn is
    settled before them, and their details are to be the picture's.
    """

    steps: int = 1500
    learning_rate: float = 1e-4
    batch: int = 1
    train: str = ""
    rank: int = 0
    dropout: float = 0.0
    prior_batch: int = 0
    prior_weight: float = 0.15
    prior_from: float = 0.0

    @property
    def spec(self) -> TrainSpec:
        return TrainSpec(self.train, self.rank)


class StageFit(NamedTuple):
    """What was learnt for one stage: arrays only."""

    target: Cond  # e_tgt
    optimised: Cond | None  # e_opt; None for super-resolution stages
    delta: Trainable | None  # tuned parameters; None where the stage was not tuned


class Fit(NamedTuple):
    """A fitted picture: rendered any number of times, without the picture."""

    stages: tuple[StageFit, ...]
    null: tuple[Cond, ...]  # the empty text, for guidance


class Picture(NamedTuple):
    """What a stage is fitted on."""

    x0: Array
    low_res: Image | None


def picture_for(stage: Stage, params: Params, image: Image) -> Picture:
    """The picture as `stage` sees it. `image` is (1, H, W, 3) in [-1, 1]."""
    return Picture(_prepare(stage, params, image), image if stage.low_res_size else None)


@functools.partial(jax.jit, static_argnums=0)
def _prepare(stage: Stage, params: Params, image: Image) -> Array:
    return stage.prepare(params, image)


# The optimizer: Adam's direction; the rate is traced so that changing it compiles nothing.
_ADAM = optax.scale_by_adam()


def _adam_step(values, adam, grads, rate):
    updates, adam = _ADAM.update(grads, adam)
    return jax.tree.map(lambda v, u: v - rate * u, values, updates), adam


@dataclasses.dataclass(frozen=True)
class EmbedStep:
    """One step of stage A: the model is frozen, the text states move."""

    stage: Stage
    batch: int

    def __call__(self, state: Any, data: Any, index: Int[Array, ""]) -> tuple[Any, Array]:
        key = jax.random.fold_in(data["key"], index)
        cond: Cond = data["cond"]
        picture: Picture = data["picture"]

        def loss_of(states):
            moved = cond._replace(states=states)
            return self.stage.loss(
                data["params"], picture.x0, moved, picture.low_res, key, self.batch
            )

        loss, grads = jax.value_and_grad(loss_of)(state["states"])
        states, adam = _adam_step(state["states"], state["adam"], grads, data["rate"])
        return {"states": states, "adam": adam}, loss


@dataclasses.dataclass(frozen=True)
class TuneStep:
    """One step of stage B: the text is frozen, the chosen parameters move."""

    stage: Stage
    batch: int
    prior_batch: int = 0

    def __call__(self, state: Any, data: Any, index: Int[Array, ""]) -> tuple[Any, Array]:
        key = jax.random.fold_in(data["key"], index)
        picture: Picture = data["picture"]
        drop_key = jax.random.fold_in(key, self.batch)
        dropped = jax.random.bernoulli(drop_key, data["dropout"], (self.batch,))
        cond = choose(dropped, data["null"], data["cond"])

        def loss_of(trainable):
            params = adapters.merge(data["params"], trainable)
            loss = self.stage.loss(params, picture.x0, cond, picture.low_res, key, self.batch)
            if self.prior_batch:
                loss += data["prior_weight"] * self._drift(params, data, key)
            return loss

        loss, grads = jax.value_and_grad(loss_of)(state["trainable"])
        trainable, adam = _adam_step(state["trainable"], state["adam"], grads, data["rate"])
        return {"trainable": trainable, "adam": adam}, loss

    def _drift(self, params: Params, data: Any, key: Array) -> Array:
        """How far the answers on some of the prior's pictures are from those of the model."""
        before = data["params"]
        row_key, draw_key = jax.random.split(jax.random.fold_in(key, self.batch + 1))
        prior: Prior = before["prior"]
        rows = jax.random.randint(row_key, (self.prior_batch,), 0, prior.x0.shape[0])
        x0, cond = jax.tree.map(lambda a: a[rows], prior)
        return self.stage.drift(params, before, x0, cond, draw_key, data["prior_from"])


def start_embedding(cond: Cond) -> LoopState:
    """Stage A before its first step: e = e_tgt."""
    states = jnp.array(cond.states, jnp.float32)
    return LoopState(0, {"states": states, "adam": _ADAM.init(states)})


def start_tuning(
    params: Params, config: TuningConfig, key: PRNGKeyArray | None = None
) -> LoopState:
    """Stage B before its first step; the trained values are float32 copies. `key` starts LoRA.

    Raises:
        ValueError: the pattern chooses nothing, or parameters that are kept in 16 bits, or draws
            are asked for from a prior that the model does not carry.
    """
    if config.prior_batch and "prior" not in params:
        raise ValueError(
            "prior_batch is above 0, and this stage carries no prior (pictures of what it knows,"
            " which the folders of Flatland's bases hold): set prior_batch to 0"
        )
    trainable, _ = adapters.split(params, config.spec, key)
    for path, a in trainable.items():
        if a.dtype.itemsize < 4:
            raise ValueError(
                f"{path} is kept in {a.dtype}: what is tuned must be kept in float32, because"
                f" steps as small as a learning rate of {config.learning_rate:g} round away in 16"
                " bits (tune by LoRA, or load the model in float32)"
            )
    trainable = {path: jnp.array(a, jnp.float32) for path, a in trainable.items()}
    return LoopState(0, {"trainable": trainable, "adam": _ADAM.init(trainable)})


def choose(which: Bool[Array, " b"], a: Cond, b: Cond) -> Cond:
    """`a` where `which`, else `b`: two texts (batch of 1) to a batch."""

    def rows(x: Array, y: Array) -> Array:
        return jnp.where(which.reshape(-1, *[1] * (x.ndim - 1)), x, y)

    return jax.tree.map(rows, a, b)


class Loop(NamedTuple):
    """Stage A or B of one picture, to be run by `runtime.loop`, or beside others by
    `runtime.lanes`."""

    step: Any  # static: (state, data, index) -> (state, loss)
    start: Callable[[Any], Any]  # static: data -> state before the first step
    data: dict[str, Any]  # what both read besides the model's "params"
    steps: int


def embedding_loop(
    stage: Stage,
    picture: Picture,
    cond: Cond,
    config: EmbeddingConfig,
    key: Any,
) -> Loop:
    """Stage A. Arguments as in `embed`; picture, text and key may be stacked for many lanes."""
    data = _data(picture, cond, key, config.learning_rate)
    return Loop(EmbedStep(stage, config.batch), _first_embedding, data, config.steps)


def tuning_loop(
    stage: Stage,
    picture: Picture,
    cond: Cond,
    null: Cond,
    config: TuningConfig,
    key: Any,
) -> Loop:
    """Stage B. Arguments as in `tune`; picture, text and key may be stacked for many lanes."""
    data = _data(picture, cond, key, config.learning_rate)
    data |= {"null": null, "dropout": jnp.float32(config.dropout)}
    step = TuneStep(stage, config.batch, config.prior_batch)
    if config.prior_batch:
        data["prior_weight"] = jnp.float32(config.prior_weight)
        data["prior_from"] = jnp.float32(config.prior_from)
    return Loop(step, _FirstTuning(config), data, config.steps)


def _first_embedding(data: Any) -> Any:
    return start_embedding(data["cond"]).value


@dataclasses.dataclass(frozen=True)
class _FirstTuning:
    config: TuningConfig

    def __call__(self, data: Any) -> Any:
        return start_tuning(data["params"], self.config, lora_key(data["key"])).value


def _data(picture: Picture, cond: Cond, key: Any, rate: float) -> dict[str, Any]:
    return {
        "picture": picture,
        "cond": cond,
        "key": key,
        "rate": jnp.float32(rate),  # traced: another rate compiles nothing
    }


def embed(
    stage: Stage,
    params: Params,
    picture: Picture,
    cond: Cond,
    config: EmbeddingConfig,
    key: PRNGKeyArray,
    *,
    state: LoopState | None = None,
    on_chunk: Callable[[Chunk], None] | None = None,
) -> LoopState:
    """Stage A: optimises the text states towards the picture.

    Args:
        stage, params: the frozen model.
        picture: see `picture_for`.
        cond: the target text, batch of 1.
        config: steps, rate, draws per step.
        key: step i draws from `fold_in(key, i)`.
        state: where to go on; None starts at the target.
        on_chunk: told after every chunk of steps.

    Returns:
        The last state; `optimised(cond, state)` is e_opt.

    Raises:
        loop.NonFiniteLoss: the optimisation diverged.
    """
    step, _, data, steps = embedding_loop(stage, picture, cond, config, key)
    data["params"] = params
    return loop.run(step, state or start_embedding(cond), data, steps, on_chunk=on_chunk)


def optimised(cond: Cond, state: LoopState) -> Cond:
    """e_opt out of stage A's state."""
    return cond._replace(states=state.value["states"].astype(cond.states.dtype))


def tune(
    stage: Stage,
    params: Params,
    picture: Picture,
    cond: Cond,
    null: Cond,
    config: TuningConfig,
    key: PRNGKeyArray,
    *,
    state: LoopState | None = None,
    on_chunk: Callable[[Chunk], None] | None = None,
) -> LoopState:
    """Stage B: fine-tunes one stage on the picture; the base at e_opt, the others at e_tgt.

    Arguments as in `embed`, and `null`, the empty text. Returns the last state; its
    `value["trainable"]` is what was learnt.
    """
    step, _, data, steps = tuning_loop(stage, picture, cond, null, config, key)
    data["params"] = params
    start = state or start_tuning(params, config, lora_key(key))
    return loop.run(step, start, data, steps, on_chunk=on_chunk)


def lora_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """Draws where LoRA starts, from a tuning's key; the steps fold in their index, below 2^31."""
    return jax.random.fold_in(key, 2**32 - 1)


def stage_key(key: PRNGKeyArray, part: str, index: int) -> PRNGKeyArray:
    """The key of one loop of a fit: `part` is "embed" or "tune", `index` the cascade's stage."""
    return jax.random.fold_in(jax.random.fold_in(key, {"embed": 0, "tune": 1}[part]), index)


def fit(
    cascade: Cascade,
    params: Params,
    image: Image,
    target: Sequence[Cond],
    null: Sequence[Cond],
    embedding: EmbeddingConfig,
    tuning: Sequence[TuningConfig | None],
    key: PRNGKeyArray,
    *,
    embedded: LoopState | None = None,
) -> Fit:
    """Stages A and B of the whole cascade, one after the other.

    Args:
        cascade, params: the model; `params["stages"]` are used.
        image: (1, H, W, 3) in [-1, 1], square.
        target, null: the encoded target and empty texts, one `Cond` per stage.
        embedding: stage A, on the base.
        tuning: stage B per stage; None leaves that stage as it is.
        key: of the whole fit.
        embedded: where stage A goes on; None starts at the target.
    """
    fits = []
    for i, stage in enumerate(cascade.stages):
        p = params["stages"][i]
        picture = picture_for(stage, p, image)
        cond, e_opt, delta = target[i], None, None
        if i == 0:
            state = embed(
                stage, p, picture, cond, embedding, stage_key(key, "embed", i), state=embedded
            )
            cond = e_opt = optimised(cond, state)
        config = tuning[i]
        if config is not None and config.steps:
            state = tune(stage, p, picture, cond, null[i], config, stage_key(key, "tune", i))
            delta = state.value["trainable"]
        fits.append(StageFit(target[i], e_opt, delta))
    return Fit(tuple(fits), tuple(null))


def fitting_programs(
    cascade: Cascade,
    params: Params,
    target: Sequence[Cond],
    embedding: EmbeddingConfig,
    tuning: Sequence[TuningConfig | None],
    place: Callable[[Any], Any] = lambda arguments: arguments,
) -> dict[str, Callable[[], Any]]:
    """The compiled programs of stages A and B in the order of their need, as thunks that lower
    them: "embed" and "tune STAGE", for `runtime.ahead`.

    Parameters and texts may be shapes. `place` may give the programs' arguments, a tree of shapes,
    other shardings.
    """
    image = jax.ShapeDtypeStruct((1, cascade.size, cascade.size, 3), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))

    def lower(i: int, config: EmbeddingConfig | TuningConfig) -> Any:
        stage, p, cond = cascade.stages[i], params["stages"][i], target[i]
        picture = jax.eval_shape(lambda p, image: picture_for(stage, p, image), p, image)
        if isinstance(config, TuningConfig):
            state = jax.eval_shape(lambda p: start_tuning(p, config).value, p)
            # e_null is shaped like e_tgt
            step, _, data, _ = tuning_loop(stage, picture, cond, cond, config, key)
        else:
            state = jax.eval_shape(lambda c: start_embedding(c).value, cond)
            step, _, data, _ = embedding_loop(stage, picture, cond, config, key)
        data = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), {**data, "params": p})
        return loop.lower(step, *place((state, data)))

    found: dict[str, Callable[[], Any]] = {}
    for i, (stage, config) in enumerate(zip(cascade.stages, tuning, strict=True)):
        if i == 0 and embedding.steps:
            found["embed"] = functools.partial(lower, i, embedding)
        if config is not None and config.steps:
            found[f"tune {stage.name}"] = functools.partial(lower, i, config)
    return found


def conds_to_draw(fit: Fit, etas: Sequence[float], seeds: Sequence[int]) -> list[Cond]:
    """Per stage, the texts of every eta with every seed, seeds fastest: on the host."""
    eta = np.array([e for e in etas for _ in seeds], np.float32)
    rest = [repeat(jax.device_get(f.target), len(eta)) for f in fit.stages[1:]]
    return [interpolate(fit.stages[0], eta), *rest]


def interpolate(fit: StageFit, eta: Float[np.ndarray, " b"]) -> Cond:
    """Stage C: e = eta e_tgt + (1 - eta) e_opt for each eta; pooled and mask stay the target's.

    Computed on the host: a new number of etas compiles nothing.
    """
    target: Cond = jax.tree.map(np.asarray, fit.target)
    opt = np.asarray((fit.optimised or fit.target).states)
    share = np.asarray(eta, target.states.dtype)[:, None, None]
    rest = repeat(target, len(share))
    return rest._replace(states=share * target.states + (1 - share) * opt)


def render(
    cascade: Cascade,
    params: Params,
    fit: Fit,
    etas: Sequence[float],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    image: Float[Array, "1 _ _ 3"] | None = None,
    before_stage: Callable[[str], None] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "e s h w 3"]:
    """Stage C: every eta with every seed, in fixed micro-batches of one compiled program.

    Args:
        cascade, params: the model that `fit` was made with.
        fit: from `fit`.
        etas: amounts of the edit; [0, 1] is the paper's range, beyond is allowed.
        seeds: of the sampling noise; the same seed starts from the same noise at every eta.
        sampling: steps, guidance, size of a micro-batch.
        image: (1, H, W, 3) in [-1, 1], the picture that was fitted; needed where `sampling.start`
            is below 1.
        before_stage, on_batch: see `generate`.

    Returns:
        Pictures of the cascade's final size in [-1, 1]: (etas, seeds, H, W, 3).

    Raises:
        ValueError: the picture is needed.
    """
    if sampling.from_picture and image is None:
        raise ValueError(f"sampling starts from the picture (start = {sampling.start:g}): give it")
    stages = [
        p if f.delta is None else adapters.merge(p, f.delta)
        for p, f in zip(params["stages"], fit.stages, strict=True)
    ]
    pictures = generate(
        cascade,
        stages,
        conds_to_draw(fit, etas, seeds),
        fit.null,
        [s for _ in etas for s in seeds],
        sampling,
        source=image,
        before_stage=before_stage,
        on_batch=on_batch,
    )
    return pictures.reshape(len(etas), len(seeds), *pictures.shape[1:])
