"""Whole jobs made of several commands: the demo, and all suites with one model. Part of the roof: may import any room."""
