"""Why two results of one model differ: items matched, the gap split by cause (docs/spec/explain.md#the-parts)."""
