"""Edit a picture in a few lines of Python: load a preset, fit, render."""

import jax
import jax.numpy as jnp

from imagic_jax.backbones import registry
from imagic_jax.editors import imagic
from imagic_jax.jobs import pictures, presets, settings

config = presets.load_config(presets.find_preset("flatland_imagen"))
cascade, params, *_ = registry.load_cascade(config.model)
preset = settings.from_config(config, cascade)

source = pictures.load_source("examples/bird.png", cascade.size)
target = cascade.text.encode(params["text"], ["a bird spreading its wings"])
null = cascade.text.encode(params["text"], [""])

fit = imagic.fit(
    cascade,
    params,
    jnp.asarray(source.square),
    target,
    null,
    preset.embedding,
    preset.tuning,
    key=jax.random.key(0),
)
etas = (0.0, 1.0, 2.0)
edited = imagic.render(
    cascade,
    params,
    fit,
    etas,
    seeds=(0,),
    sampling=preset.sampling,
    image=jnp.asarray(source.square),
)

for eta, picture in zip(etas, edited, strict=True):
    pictures.to_pil(picture[0]).save(f"bird_eta{eta:g}.png")
