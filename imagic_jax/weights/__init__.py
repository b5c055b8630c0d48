"""Reading and writing model folders in the layout of diffusers and transformers."""
