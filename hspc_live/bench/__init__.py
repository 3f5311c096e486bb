"""Measurements that a user repeats: throughput and latency, each beside its peer or its limit in the same run."""
