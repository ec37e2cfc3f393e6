"""Benchmark and run folders on disk: formats and versions, atomic writes, records as tables."""
