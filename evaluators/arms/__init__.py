"""Arms: the targets of a run asked again with one thing changed."""
