"""Two runs side by side: paired differences per tier or task."""
