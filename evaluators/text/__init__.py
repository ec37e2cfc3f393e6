"""`--suite text`: text-only tasks through lm-eval's own `simple_evaluate`."""
