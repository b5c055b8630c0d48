"""Noise schedules as frozen scalars, read from a diffusers `scheduler_config.json`.

Tables are computed once per schedule in NumPy float64 and handed out as float32 constants: near
t = T the cosine schedule has 1 - abar = 1 - 2e-9, which float32 arithmetic would lose.

x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps, with t an index into 0..T-1 (Ho et al. 2020, eq. 4).
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

PredictionType = Literal["epsilon", "v_prediction", "sample"]


class UnsupportedSchedule(ValueError):
    """A scheduler_config.json asks for something that is not built here."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A noise schedule: static and hashable. Field names and defaults are diffusers'.

    `max_loss_weight` is ours (diffusers ignores it): the squared error of x0 is weighted by
    min(SNR + 1, max_loss_weight), which is v-prediction's weighting (Salimans & Ho 2022), cut off
    where little noise is left (Hang et al. 2023, Min-SNR). None leaves the error of the model's own
    target as it is.
    """

    num_train_timesteps: int = 1000
    beta_schedule: str = "linear"
    beta_start: float = 0.0001
    beta_end: float = 0.02
    prediction_type: PredictionType = "epsilon"
    variance_type: str = "fixed_small"
    timestep_spacing: str = "leading"
    steps_offset: int = 0
    set_alpha_to_one: bool = True
    clip_sample: bool = True
    clip_sample_range: float = 1.0
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    max_loss_weight: float | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Schedule":
        """Reads a `scheduler_config.json`; keys that change no number here are left out.

        Raises:
            UnsupportedSchedule: for a beta schedule, prediction type, variance or spacing that
                is not built here, or for a rescaled (zero terminal SNR) schedule.
        """
        given = {f.name: config.get(f.name) for f in dataclasses.fields(cls)}
        fields = {k: v for k, v in given.items() if v is not None}
        fields |= {k: float(fields[k]) for k in _REAL if k in fields}  # JSON writes 1 for 1.0
        for field, allowed in _ALLOWED.items():
            if fields.get(field, allowed[0]) not in allowed:
                raise UnsupportedSchedule(
                    f"scheduler_config.json: {field}={fields[field]!r} is not supported;"
                    f" one of {', '.join(allowed)}"
                )
        schedule = cls(**fields)
        if schedule.max_loss_weight is not None and schedule.prediction_type == "epsilon":
            raise UnsupportedSchedule("max_loss_weight does not go with prediction_type 'epsilon'")
        if config.get("rescale_betas_zero_snr") or config.get("trained_betas") is not None:
            raise UnsupportedSchedule(
                "scheduler_config.json: rescale_betas_zero_snr and trained_betas are not supported"
            )
        return schedule

    def to_config(self, class_name: str = "DDIMScheduler") -> dict[str, Any]:
        """The `scheduler_config.json` that PyTorch diffusers reads."""
        fields = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        return {"_class_name": class_name, **fields}

    def alphas_cumprod(self) -> Float[np.ndarray, "t"]:
        """abar_t for t = 0..T-1, float64."""
        return _alphas_cumprod(self)

    def final_alpha_cumprod(self) -> float:
        """abar "before the first step": 1, or abar_0 where the checkpoint says so."""
        return 1.0 if self.set_alpha_to_one else float(self.alphas_cumprod()[0])

    def loss_weight(self, t: Int[Array, "..."]) -> Float[Array, "..."] | None:
        """The training loss's weight at traced timesteps; None where all weigh alike."""
        if self.max_loss_weight is None:
            return None
        noise = 1.0 - self.alphas_cumprod()  # 1 / (SNR + 1)
        if self.prediction_type == "v_prediction":  # its error is SNR + 1 times that of x0
            weight = np.minimum(1.0, self.max_loss_weight * noise)
        else:
            with np.errstate(divide="ignore"):
                weight = np.minimum(1.0 / noise, self.max_loss_weight)
        return jnp.asarray(weight, jnp.float32)[t]

    def abar(self, t: Int[Array, "..."]) -> Float[Array, "..."]:
        """abar at traced timesteps, float32."""
        return jnp.asarray(self.alphas_cumprod(), jnp.float32)[t]

    def one_minus_abar(self, t: Int[Array, "..."]) -> Float[Array, "..."]:
        """1 - abar at traced timesteps, float32, computed without cancellation."""
        return jnp.asarray(1.0 - self.alphas_cumprod(), jnp.float32)[t]


_ALLOWED = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "prediction_type": ("epsilon", "v_prediction", "sample"),
    "variance_type": ("fixed_small", "fixed_large", "learned_range"),
    "timestep_spacing": ("leading", "trailing", "linspace"),
}

_REAL = (
    "beta_start",
    "beta_end",
    "clip_sample_range",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "max_loss_weight",
)


@functools.cache
def _alphas_cumprod(schedule: Schedule) -> np.ndarray:
    steps = schedule.num_train_timesteps
    if schedule.beta_schedule == "squaredcos_cap_v2":

        def abar(u: float) -> float:
            return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

        betas = np.array(
            [min(1 - abar((i + 1) / steps) / abar(i / steps), 0.999) for i in range(steps)]
        )
    elif schedule.beta_schedule == "scaled_linear":
        betas = np.linspace(schedule.beta_start**0.5, schedule.beta_end**0.5, steps) ** 2
    else:
        betas = np.linspace(schedule.beta_start, schedule.beta_end, steps)
    table = np.cumprod(1.0 - betas)
    table.flags.writeable = False
    return table


def timesteps(schedule: Schedule, num_steps: int) -> Int[np.ndarray, "n"]:
    """The timesteps that `num_steps` sampling steps visit, from noisy to clean.

    Raises:
        ValueError: unless 1 <= num_steps <= T.
    """
    total = schedule.num_train_timesteps
    if not 1 <= num_steps <= total:
        raise ValueError(f"sampling steps must be between 1 and {total}, got {num_steps}")
    if schedule.timestep_spacing == "trailing":
        return np.round(np.arange(total, 0, -total / num_steps)).astype(np.int64) - 1
    if schedule.timestep_spacing == "linspace":
        return np.round(np.linspace(0, total - 1, num_steps))[::-1].astype(np.int64)
    steps = (np.arange(num_steps) * (total // num_steps))[::-1] + schedule.steps_offset
    return np.minimum(steps, total - 1).astype(np.int64)


class Grid(NamedTuple):
    """The levels that a sampling run visits, noisy to clean: float32/int32 arrays of length n.

    `abar_next` is the level that the step lands on. The complements are kept beside them because
    they cannot be recovered from float32 values close to 1.
    """

    t: Int[Array, "n"]
    abar: Float[Array, "n"]
    one_minus_abar: Float[Array, "n"]
    abar_next: Float[Array, "n"]
    one_minus_abar_next: Float[Array, "n"]


def grid(schedule: Schedule, num_steps: int) -> Grid:
    """The grid of `num_steps` levels. The step from t lands on the next visited timestep.

    diffusers' DDIM lands on t - T//N instead, which is the same wherever the spacing divides
    evenly, and its `leading` grids do.
    """
    t, *columns = _columns(schedule, num_steps)
    return Grid(jnp.asarray(t), *(jnp.asarray(c) for c in columns))


def steps_left_out(steps: int, share: float) -> int:
    """How many of the noisiest steps are left out where `share`, in [0, 1], of them is done.

    Rounded as diffusers' img2img does: any share below 1 leaves out one or more.
    """
    return steps - min(int(steps * share), steps)


def padded_grid(schedule: Schedule, num_steps: int, start: int = 0) -> tuple[Grid, Array]:
    """A grid padded to T rows, and its true length as an array: inputs of a compiled sampler.

    Padded on the host: another number of steps compiles nothing.

    Args:
        schedule: the model's.
        num_steps: levels of the whole grid.
        start: how many of its noisiest levels are left out; editors that start from a noised
            picture begin there.
    """
    if not 0 <= start <= num_steps:
        raise ValueError(f"start must be between 0 and {num_steps}, got {start}")
    pad = schedule.num_train_timesteps - num_steps + start
    t, *columns = (np.pad(c[start:], (0, pad)) for c in _columns(schedule, num_steps))
    return Grid(jnp.asarray(t), *(jnp.asarray(c) for c in columns)), jnp.int32(num_steps - start)


def _columns(schedule: Schedule, num_steps: int) -> tuple[np.ndarray, ...]:
    """The fields of `Grid` on the host."""
    t = timesteps(schedule, num_steps)
    table = schedule.alphas_cumprod()
    here = table[t]
    landing = np.append(table[t[1:]], schedule.final_alpha_cumprod())
    if schedule.timestep_spacing == "leading":
        previous = t - schedule.num_train_timesteps // num_steps
        landing = np.where(
            previous >= 0, table[np.maximum(previous, 0)], schedule.final_alpha_cumprod()
        )
    levels = (here, 1.0 - here, landing, 1.0 - landing)
    return t.astype(np.int32), *(c.astype(np.float32) for c in levels)


def add_noise(schedule: Schedule, x0, eps, t: Int[Array, "b"]):
    """x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps for a batch of timesteps."""
    scale = (slice(None),) + (None,) * (x0.ndim - 1)
    signal = jnp.sqrt(schedule.abar(t))[scale].astype(x0.dtype)
    noise = jnp.sqrt(schedule.one_minus_abar(t))[scale].astype(x0.dtype)
    return signal * x0 + noise * eps
