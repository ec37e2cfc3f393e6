"""The experiment: methods × learning rates of the LLM × seeds, a cell each, and what came out of each cell."""
