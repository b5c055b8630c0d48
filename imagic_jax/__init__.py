"""imagic_jax: text-based editing of real pictures with diffusion models, in JAX."""
