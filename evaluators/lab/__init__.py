"""Figures over the cells of the experiment (`iit_bench/lab/cells.py`): what was lost and gained, differences between methods, verdicts."""
