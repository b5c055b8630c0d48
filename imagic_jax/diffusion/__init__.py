"""Diffusion: schedules, prediction types, sampler steps, guidance, loops, the training loss.

Everything here is a pure function of arrays; no network, no file, no device is known.
"""
