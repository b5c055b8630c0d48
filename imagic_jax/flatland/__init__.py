"""Flatland: the procedural picture world `x = R(f, u)` with known factors and counterfactuals.

`f` are the factors a caption may name (class, state, colour, place, accessory, style); `u` is the
nuisance that no caption names (position, size, facing, light, background, the identity mark).
"""
