"""Mode `released`: what the authors' code does differently (docs/spec/wings.md part A): rows, prompts, names, checkpoints, evaluation."""
