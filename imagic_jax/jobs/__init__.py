"""Jobs: what happens around an edit: reading pictures, output folders, saving, resuming."""
