"""The methods that there are besides Imagic, by name."""

from imagic_jax.editors import (
    blended,
    blended_latent,
    ddib,
    ddim_inversion,
    ddpm_inversion,
    edict,
    guide_and_rescale,
    ledits,
    ledits_pp,
    negative_prompt,
    null_text,
    plug_and_play,
    prompt_to_prompt,
    sdedit,
    sega,
)
from imagic_jax.editors.contracts import Method

METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        sdedit.METHOD,
        ddib.METHOD,
        ddim_inversion.METHOD,
        negative_prompt.METHOD,
        null_text.METHOD,
        edict.METHOD,
        ddpm_inversion.METHOD,
        sega.METHOD,
        ledits.METHOD,
        ledits_pp.METHOD,
        blended.METHOD,
        blended.LOCAL,
        blended_latent.METHOD,
        prompt_to_prompt.METHOD,
        plug_and_play.METHOD,
        guide_and_rescale.METHOD,
    )
}
