"""Drawn figures of a Flatland run: the paper's Figs. 9 and 14, leakage, cost against quality.

matplotlib without pyplot: no window, no state between figures. Colours are Okabe and Ito's, which
stay apart for colour-blind readers and, with the markers, in grey print.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imagic_jax.evaluation import curves, statistics, tables
from imagic_jax.evaluation.anchors import PREFIX
from imagic_jax.evaluation.flatland_report import Results
from imagic_jax.evaluation.tables import Sweep

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
MARKERS = "osD^vP*X"
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "svg.hashsalt": "imagic",  # the same file from the same rows
}
_RESAMPLES = 1000  # of a ribbon
#: Curves of one sweep: score, label, and whether it is about the edit or about what stays.
_CURVES = (
    ("read_success", "edit there"),
    ("success", "edit there, valid"),
    ("preservation", "other factors kept"),
    ("identity", "identity marks kept"),
    ("joint", "JOINT"),
)


def look(number: int) -> tuple[str, str]:
    """Colour and marker of a line; where the colours begin again, they have other markers."""
    round_, at = divmod(number, len(COLOURS))
    return COLOURS[at], MARKERS[(at + round_) % len(MARKERS)]


def style() -> Any:
    """The settings of all figures, as a context."""
    return matplotlib.rc_context(_STYLE)


def save(figure: Figure, stem: Path) -> None:
    """Writes STEM.png (200 dpi) and STEM.svg."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(stem.with_suffix(".png"), dpi=200, bbox_inches="tight")
    figure.savefig(stem.with_suffix(".svg"), bbox_inches="tight", metadata={"Date": None})


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _ribbon(axes: Axes, sweep: Sweep, key: str, label: str, number: int, **line: Any) -> None:
    """A mean over strengths with its 95 % interval."""
    middle, low, high, grid = [], [], [], []
    for e, strength in enumerate(sweep.strengths):
        values, edits, _ = statistics.with_sources(sweep.values(key)[..., e], sweep.edits)
        if not len(values):
            continue
        found = statistics.bootstrap(values, strata=edits, resamples=_RESAMPLES)
        grid.append(strength)
        middle.append(found.estimate)
        low.append(found.low)
        high.append(found.high)
    colour, marker = look(number)
    axes.plot(grid, middle, color=colour, marker=marker, label=label, **line)
    axes.fill_between(grid, low, high, color=colour, alpha=0.15, linewidth=0)


def tradeoff(sweep: Sweep, title: str, knob: str, chosen: float) -> Figure:
    """Every share over the strength of one method, with the chosen strength marked."""
    figure, axes = _figure(6.0, 3.6)
    for i, (key, label) in enumerate(_CURVES):
        _ribbon(axes, sweep, key, label, i)
    axes.axvline(chosen, color="#666666", linestyle=":", linewidth=1.2)
    axes.annotate(
        "chosen", (chosen, 1.01), xycoords=("data", "axes fraction"), ha="center", fontsize=8
    )
    axes.set(xlabel=knob, ylabel="share of pictures", ylim=(-0.02, 1.02))
    axes.set_title(title, loc="left", pad=14)
    figure.legend(loc="outside right center")
    return figure


def fig9(sweep: Sweep) -> Figure:
    """The paper's Fig. 9: alignment with the text and fidelity to the picture over eta.

    With a trained pair: wclip and 1 - wlpips, which are no CLIP and no LPIPS; else the reader's
    success and the share of factors kept.
    """
    learned = np.isfinite(sweep.values("wclip")).any()
    pair = (
        (("wclip", "alignment: wclip"), ("wlpips_kept", "fidelity: 1 - wlpips"))
        if learned
        else (
            ("read_success", "alignment: edit there"),
            ("preservation", "fidelity: other factors kept"),
        )
    )
    figure, left = _figure(5.0, 3.4)
    right = left.twinx()
    right.spines["right"].set_visible(True)
    right.grid(False)
    for i, (axes, (key, label)) in enumerate(zip((left, right), pair, strict=True)):
        _ribbon(axes, sweep, key, label, i)
        axes.set_ylabel(label, color=COLOURS[i])
        axes.tick_params(axis="y", colors=COLOURS[i])
    left.set(xlabel="eta")
    return figure


def plane(found: Mapping[str, Sweep], titles: Mapping[str, str]) -> Figure:
    """Edit success against preservation, one line per method's sweep: up and right is better."""
    figure, axes = _figure(5.2, 3.8)
    for i, (method, sweep) in enumerate(found.items()):
        x = curves.mean_curve(sweep.values("preservation"))
        y = curves.mean_curve(sweep.values("read_success"))
        colour, marker = look(i)
        axes.plot(x, y, color=colour, marker=marker, label=titles.get(method, method))
    axes.set(xlabel="other factors kept", ylabel="edit there", ylim=(-0.02, 1.02))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def fig14(found: Mapping[str, Sweep], titles: Mapping[str, str]) -> Figure:
    """The paper's Fig. 14: how many embedding steps, over eta."""
    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (method, sweep) in enumerate(found.items()):
        _ribbon(left, sweep, "read_success", titles.get(method, method), i)
        _ribbon(right, sweep, "source_psnr", "", i)
    left.set(xlabel="eta", ylabel="edit there", ylim=(-0.02, 1.02))
    right.set(xlabel="eta", ylabel="PSNR to the input (dB)")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def leakage(
    found: Mapping[str, Sweep], chosen: Mapping[str, float], titles: Mapping[str, str]
) -> Figure:
    """What changes that should not, by kind of edit: one matrix per method."""
    count = len(found)
    figure = Figure(
        figsize=(2.6 * min(count, 3) + 0.9, 2.5 * -(-count // 3) + 0.3), layout="constrained"
    )
    grid = figure.subplots(-(-count // 3), min(count, 3), squeeze=False)
    image = None
    for axes, (method, sweep) in zip(grid.flat, found.items(), strict=False):
        kinds, factors, matrix = tables.leakage(sweep, chosen[method])
        image = axes.imshow(matrix, vmin=0, vmax=1, cmap="Blues", aspect="auto")
        axes.grid(False)
        axes.set_title(titles.get(method, method), fontsize=9)
        axes.set_xticks(range(len(factors)), factors, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(len(kinds)), kinds, fontsize=8)
        for (k, j), share in np.ndenumerate(matrix):
            text, dark = ("", False) if np.isnan(share) else (f"{share:.2f}", share > 0.55)
            axes.text(j, k, text, ha="center", va="center", fontsize=7, color="w" if dark else "k")
    for axes in list(grid.flat)[count:]:
        axes.set_axis_off()
    if image is not None:
        figure.colorbar(image, ax=grid, label="share that changed", shrink=0.8)
    return figure


def cost_against_quality(results: Results, titles: Mapping[str, str]) -> Figure:
    """Joint success over what one edit costs: seconds without compiling, and evaluations."""
    figure = Figure(figsize=(7.4, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    seconds = {line.method: line.cells for line in results.costs}
    methods = [line for line in results.factors if not line.method.startswith(PREFIX)]
    for i, line in enumerate(methods):
        colour, marker = look(i)
        cost, joint = seconds[line.method], line.cells["joint"]
        error = [[joint.estimate - joint.low], [joint.high - joint.estimate]]
        spent = (
            cost["fit_s"].estimate + cost["render_s"].estimate,
            cost["fit_evaluations"].estimate + cost["render_evaluations"].estimate,
        )
        for a, x in zip(axes, spent, strict=True):
            a.errorbar(
                max(x, 1e-2), joint.estimate, error, fmt=marker, color=colour, capsize=2,
                label=titles.get(line.method, line.method),
            )  # fmt: skip
    for a, label in zip(axes, ("seconds per edit", "model evaluations per edit"), strict=True):
        a.set(xlabel=label, xscale="log")
    axes[0].set(ylabel="JOINT", ylim=(-0.02, 1.02))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def figures(
    results: Results, titles: Mapping[str, str], knobs: Mapping[str, str]
) -> dict[str, tuple[str, Figure]]:
    """All figures that the rows allow: {file stem: (caption, figure)}."""
    methods = {m: s for m, s in results.found.items() if not m.startswith(PREFIX)}
    swept = {m: s for m, s in results.swept.items() if len(s.strengths) > 2}
    found: dict[str, tuple[str, Figure]] = {}
    if "imagic" in swept:
        caption = "Alignment and fidelity over eta (the paper's Fig. 9), Imagic"
        found["fig9-eta"] = caption, fig9(swept["imagic"])
    for method, sweep in swept.items():
        title, knob = titles.get(method, method), knobs.get(method, "strength")
        figure = tradeoff(sweep, title, knob, results.chosen[method])
        found[f"sweep-{method}"] = f"{title} over its {knob}, with 95 % intervals", figure
    if methods:
        of = "" if results.swept_part == results.part else f", {results.swept_part} items"
        found["plane"] = (
            f"Every sweep: edit success against preservation{of}",
            plane({m: s for m, s in results.swept.items() if m in methods}, titles),
        )
        found["leakage"] = (
            "Leakage: what changed that should have stayed, by kind of edit",
            leakage(methods, results.chosen, titles),
        )
        found["cost"] = "Cost against quality", cost_against_quality(results, titles)
    steps = {m: s for m, s in swept.items() if m.endswith("_embedding_steps")}
    if len(steps) > 1:
        found["fig14-embedding-steps"] = (
            "Embedding steps (the paper's Fig. 14)",
            fig14(steps, titles),
        )
    return found
