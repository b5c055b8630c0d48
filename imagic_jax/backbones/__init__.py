"""Backbones: what an editor sees of a model (`Stage`, `Cascade`), built from model folders."""
