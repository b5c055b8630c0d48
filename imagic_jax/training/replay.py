"""What a trained base carries to keep its knowledge while it is tuned (see `contracts.Prior`).

Pictures as it was trained on, under captions that name all their factors: a caption that left some
open would ask the tuned model to go on varying what it shall remember of a picture.
"""

from typing import Any

import jax

from imagic_jax.backbones.contracts import Cond, Prior
from imagic_jax.training.data import CLASSES, caption_table, draw_batch
from imagic_jax.training.tasks import StageTask, text_states
from imagic_jax.weights.tokenizer import Tokenizer

PICTURES = 12 * CLASSES
_CAPTIONS = 48  # per class, to draw from
SEED = 20_000  # apart from the seeds of training runs


def draw_prior(task: StageTask, frozen: Any, tokenizer: Tokenizer) -> Prior:
    """`PICTURES` pictures of the training distribution as the base sees them; always the same.

    Args:
        task: how the base was trained: its stage, text encoder and share of marked pictures.
        frozen: parameters of the text encoder and of an autoencoder, as in `StageTask`.
        tokenizer: of the base's texts.
    """
    table = caption_table(tokenizer, _CAPTIONS, SEED, name_all=True)
    batch = draw_batch(
        table,
        jax.random.key(SEED),
        PICTURES,
        task.stage.size,
        mark_share=task.mark_share,
        text_dropout=0.0,
        oversample=task.oversample,
    )
    cond = Cond(text_states(task.text, frozen["text"], batch.ids, batch.mask))
    return Prior(task.stage.prepare(frozen["stage"], batch.image), cond)
