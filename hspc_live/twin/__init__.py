"""The digital twin that the simulated camera films."""
