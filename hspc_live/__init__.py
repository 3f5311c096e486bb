"""HSPC Live: the pipeline from camera to sort decision."""
