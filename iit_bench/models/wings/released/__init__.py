"""Mode `released`: what the authors' code does differently (docs/spec/wings.md#part-a-released).

Rows, prompts, names, checkpoints, evaluation.
"""
