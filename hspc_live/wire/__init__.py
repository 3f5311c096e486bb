"""Messages and links between processes."""
