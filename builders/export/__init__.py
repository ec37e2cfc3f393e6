"""Writes a benchmark folder in the formats of other tools, so that their users can run IIT without this project."""
