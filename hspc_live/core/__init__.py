"""Values, protocols, errors, clock, crop geometry and identity: what everything else speaks."""
