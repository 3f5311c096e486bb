"""The processes a run consists of."""
