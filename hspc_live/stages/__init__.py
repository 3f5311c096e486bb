"""The stages of the path, from background to sort core; no I/O."""
