"""Pictures from text alone, written to a folder: what `imagic sample` does."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from imagic_jax.backbones.contracts import Cond
from imagic_jax.backbones.generate import generate
from imagic_jax.backbones.registry import Loaded
from imagic_jax.jobs import output, pictures
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.report.strips import enlarge, grid
from imagic_jax.runtime.progress import Reporter


def sample(
    texts: Sequence[str],
    negative: str,
    loaded: Loaded,
    settings: EditSettings,
    out: Path,
    reporter: Reporter,
) -> list[Path]:
    """Draws every text with every seed; returns the files, the sheet of all of them last."""
    output.check_writable(out)
    cascade = loaded.cascade
    for text in [*texts, negative]:
        for note in cascade.text.check(text):
            reporter.warn(f"“{text}”: {note}")
    drawn = draw_texts(loaded, texts, negative, settings, reporter)
    out.mkdir(parents=True, exist_ok=True)
    files, rows = [], []
    for i, text in enumerate(texts):
        stem = f"{i:02d}-{output.default_folder('', text).name}"
        rows.append([])
        for j, seed in enumerate(settings.seeds):
            picture = pictures.to_pil(drawn[i * len(settings.seeds) + j])
            files.append(out / f"{stem}_seed{seed}.png")
            output.save_picture(picture, files[-1])
            rows[-1].append(enlarge(picture))
    sheet = grid(rows, [f"seed {s}" for s in settings.seeds], title="; ".join(texts))
    files.append(out / "sheet.png")
    output.save_picture(sheet, files[-1])
    return files


def draw_texts(
    loaded: Loaded,
    texts: Sequence[str],
    negative: str,
    settings: EditSettings,
    reporter: Reporter,
    stages: int | None = None,
) -> np.ndarray:
    """Every text with every seed: (texts * seeds, H, W, 3) in [-1, 1], texts slowest."""
    cascade, params, seeds = loaded.cascade, loaded.params, settings.seeds
    null = cascade.text.encode(params["text"], [negative])

    def each_seed(cond: Cond) -> Cond:
        return jax.tree.map(lambda a: np.repeat(np.asarray(a), len(seeds), axis=0), cond)

    conds = [each_seed(c) for c in cascade.text.encode(params["text"], texts)]
    count = -(-len(texts) * len(seeds) // settings.sampling.batch)
    progress = reporter.stage("drawing", count * len(cascade.stages[:stages]))
    return np.asarray(
        generate(
            cascade,
            params["stages"],
            conds,
            null,
            list(seeds) * len(texts),
            settings.sampling,
            stages=stages,
            on_batch=lambda done, total: progress.advance(done),
        )
    )
