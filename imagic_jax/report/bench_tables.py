"""What `imagic bench` prints: tables of its JSON."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

_T, _G = 1e12, 1e9


def measured(result: Mapping[str, Any]) -> Table:
    """Times on this machine, beside what no program falls below."""
    table = Table(title=_title(result), caption=_caption(result))
    table.add_column("part")
    for name in (
        "times",
        "compile\ncold, warm",
        "median",
        "least-most",
        "per s",
        "TFLOP",
        "TFLOP/s",
        "of peak",
        "arithmetic\nfloor",
        "traffic\nfloor",
        "GiB",
    ):
        table.add_column(name, justify="right")
    for r in result["rows"]:
        table.add_row(
            r["name"],
            str(r["times"]),
            f"{seconds(r['compile_cold_s'])}, {seconds(r['compile_warm_s'])}",
            seconds(r["median_s"]),
            f"{seconds(r['least_s'])}-{seconds(r['most_s'])}",
            number(r["per_s"]),
            number(r["flops"] / _T),
            number(r["flops_per_s"] / _T),
            "-" if r["peak_share"] is None else f"{100 * r['peak_share']:.1f} %",
            seconds(r["compute_floor_s"]),
            seconds(r["traffic_floor_s"]),
            number(r["memory_gib"]),
        )
    return table


def _title(result: Mapping[str, Any]) -> str:
    weights = ", random weights" if result["random_weights"] else ""
    return f"{result['model']}{weights}, on {result['device']['kind']}"


def _caption(result: Mapping[str, Any]) -> str:
    lines = []
    chip = result["device"]["chip"]
    if chip is None:
        lines.append(f"peak of {result['device']['kind']} unknown: no shares and floors")
    else:
        lines.append(
            f"{chip['name']}: {number(chip['peak'] / _T)} TFLOP/s,"
            f" {number(chip['bandwidth'] / _G)} GB/s ({chip['source']})"
        )
    edit = result["edit"]
    if edit["measured"]:
        m = edit["measured"]
        lines.append(
            f"whole edit, warm: {seconds(m['median_s'])}"
            f" ({seconds(m['least_s'])}-{seconds(m['most_s'])})"
        )
    if edit["parts_s"] is not None:
        lines.append(f"whole edit, added up from the parts: {seconds(edit['parts_s'])}")
    lines.append(f"most memory in use: {result['peak_memory_gib']:.2f} GiB")
    return "\n".join(lines)


def compiled(result: Mapping[str, Any]) -> Table:
    """Programs compiled for a machine that is not there."""
    chip = result["chip"]
    table = Table(title=f"{result['model']} compiled for {result['target']}", caption=_sum(result))
    table.add_column("part")
    for name in (
        "times",
        "compile",
        "GiB of\n" + f"{chip['memory'] / 2**30:.0f}",
        "fits",
        "TFLOP",
        "TFLOP\n(XLA)",
        "GB\naccessed",
        "roofline\n(estimate)",
        "arithmetic\nfloor",
        "traffic\nfloor",
    ):
        table.add_column(name, justify="right")
    for r in result["rows"]:
        table.add_row(
            r["name"],
            str(r["times"]),
            seconds(r["compile_s"]),
            number(r["memory_gib"]),
            "yes" if r["fits"] else "NO",
            number(r["flops"] / _T),
            number(None if r["flops_xla"] is None else r["flops_xla"] / _T),
            ("≥ " if r["loops"] else "")
            + number(None if r["accessed"] is None else r["accessed"] / _G),
            seconds(r["roofline_s"]),
            seconds(r["compute_floor_s"]),
            seconds(r["traffic_floor_s"]),
        )
    return table


def _sum(result: Mapping[str, Any]) -> str:
    edit = result["edit"]
    if edit is None:
        return "not all parts are compiled, or one does not fit: no sum over the edit"
    return (
        f"whole edit, estimated by rooflines: {seconds(edit['roofline_s'])}; by the floors:"
        f" {seconds(edit['floor_s'])} (the paper: 8 min on two TPU v4 chips for Imagen, 7 min on"
        " one A100 for Stable Diffusion)"
    )


def seconds(value: float | None) -> str:
    """A duration in its natural unit, to three digits."""
    if value is None:
        return "-"
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return "0 s" if value <= 0 else f"{number(value * 1e9)} ns"


def number(value: float | None) -> str:
    """Three digits; "-" for what is not known."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
