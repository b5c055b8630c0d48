"""Editors: one file per method, each reading like its paper's algorithm box."""
