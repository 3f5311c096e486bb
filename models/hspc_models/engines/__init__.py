"""Inference engines: one module per way of running the network; each implements `hspc_live.core.protocols.Engine`."""
