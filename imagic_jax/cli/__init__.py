"""The command line: thin programs over absl flags. Parse, call, print."""
