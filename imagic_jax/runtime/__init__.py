"""The machine: chunked loops on the device, saving and resuming, progress, compile cache."""
