"""Pictures that a run leaves: what was seen, what was said of it, and how true and timely that was."""
