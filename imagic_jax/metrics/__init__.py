"""Metrics as pure functions over arrays.

Pictures are float32, NHWC, in [0, 1] unless a function says otherwise; masks are (b, h, w) of 0 and
1. What a metric measures depends on its options as much as on its name, so `catalog` gives every
metric an identity that spells them out. The published definitions are cited file by file.
"""
