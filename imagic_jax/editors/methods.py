"""The methods that there are besides Imagic, by name."""

from imagic_jax.editors import sdedit
from imagic_jax.editors.contracts import Method

METHODS: dict[str, Method] = {m.name: m for m in (sdedit.METHOD,)}
