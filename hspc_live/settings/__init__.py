"""Settings: schema and loading."""
