"""What a program costs: arithmetic, bytes, memory; counted by XLA, and from the program's text.

Two counts of arithmetic: XLA's own (`cost_of`, of what the compiler made, each loop's body once),
and that of the matrix products and convolutions as they are written (`flops`, two per multiply and
add), which is the convention of published FLOPs and does not depend on a compiler.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import core

from imagic_jax.runtime.devices import Chip


class Cost(NamedTuple):
    """One compiled program, per chip, as XLA counts it: FLOPs and bytes."""

    flops: float
    accessed: float  # bytes moved from and to memory
    arguments: int
    outputs: int
    reused: int  # of the outputs: laid into donated arguments
    temporaries: int
    code: int

    @property
    def memory(self) -> int:
        """Bytes of the chip's memory while it runs."""
        fresh = max(self.outputs - self.reused, 0)
        return self.arguments + fresh + self.temporaries + self.code


def cost_of(compiled: Any) -> Cost:
    """The cost of a `jax.stages.Compiled`; what its backend does not tell is 0."""
    counted = compiled.cost_analysis() or {}
    sizes = compiled.memory_analysis()

    def size(name: str) -> int:
        return int(getattr(sizes, f"{name}_size_in_bytes", 0))

    return Cost(
        flops=float(counted.get("flops", 0.0)),
        accessed=float(counted.get("bytes accessed", 0.0)),
        arguments=size("argument"),
        outputs=size("output"),
        reused=size("alias"),
        temporaries=size("temp"),
        code=size("generated_code"),
    )


def roofline(cost: Cost, chip: Chip, flops: float = 0.0) -> float:
    """Seconds that a program needs at least: at the chip's peak, or at its memory's bandwidth.

    XLA does not see into a device's own kernels, and counts one round of a loop: where the
    arithmetic is known from the program's text, `flops`, the larger of the two counts.
    """
    return max(max(cost.flops, flops) / chip.peak, cost.accessed / chip.bandwidth)


def loops(lowered: Any) -> int:
    """How many loops a `jax.stages.Lowered` program has."""
    return lowered.as_text().count("stablehlo.while")


def flops(function: Callable, *shapes: Any) -> float:
    """FLOPs of the matrix products and convolutions in `function(*shapes)`.

    Nothing is compiled or computed. A scan counts each of its rounds, a while loop one, and of
    branches the costliest counts.

    Args:
        function: traceable.
        shapes: its arguments, arrays or `jax.ShapeDtypeStruct`s.
    """
    return _flops(jax.make_jaxpr(function)(*shapes).jaxpr)


def _flops(jaxpr: core.Jaxpr) -> float:
    return sum((_equation(eqn) for eqn in jaxpr.eqns), 0.0)


def _equation(eqn: Any) -> float:
    name = eqn.primitive.name
    if name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        left, out = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
        return 2.0 * math.prod(out) * math.prod(left[i] for i in contracted)
    if name == "conv_general_dilated":
        spec = eqn.params["dimension_numbers"].rhs_spec  # (out, in, *space)
        kernel, out = eqn.invars[1].aval.shape, eqn.outvars[0].aval.shape
        return 2.0 * math.prod(out) * math.prod(kernel[i] for i in spec[1:])
    inner = [_flops(j) for j in _inner(eqn.params)]
    if name == "cond":
        return max(inner)
    return sum(inner, 0.0) * (eqn.params["length"] if name == "scan" else 1)


def _inner(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, core.ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, core.Jaxpr):
                yield one
