"""What the command line says of single words, for prompt-to-prompt (`editors.words.align`)."""

from typing import NamedTuple

from imagic_jax.errors import UserError
from imagic_jax.jobs.settings import listed, number


class WordChoices(NamedTuple):
    """Factors on words of the target, and words of source and target where it may change."""

    emphasis: dict[str, float] = {}  # noqa: RUF012
    place: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def __str__(self) -> str:
        factors = ",".join(f"{w}={f:g}" for w, f in self.emphasis.items())
        return "; ".join(filter(None, [factors, "/".join(",".join(p) for p in self.place if p)]))


def parse(emphasis: str | None, place: str | None) -> WordChoices | None:
    """Reads --emphasis="wings=2,bird=.5" and --place="bird/wings"; None if neither is given.

    Raises:
        UserError: one is not understood.
    """
    if emphasis is None and place is None:
        return None
    factors = {}
    for entry in [] if emphasis is None else listed(emphasis, "--emphasis"):
        word, sign, factor = (p.strip() for p in entry.partition("="))
        if not word or not sign:
            raise UserError(f"--emphasis: {entry!r} is not understood; write WORD=2")
        factors[word] = number(factor, f"--emphasis: {word}")
    source, _, target = (place or "").partition("/")
    return WordChoices(factors, (_words(source), _words(target or source)))


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (w.strip() for w in text.split(","))))
