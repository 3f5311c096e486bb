"""Cameras and sorters."""
