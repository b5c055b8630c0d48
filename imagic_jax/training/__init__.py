"""Training of the Flatland models: pictures drawn on the fly, one readable trainer for all."""
