"""Recordings: layout, writer, reader."""
