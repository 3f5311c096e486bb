"""Faults on purpose: wrappers around a run's devices that do what a fault plan says. Unused without a plan."""
