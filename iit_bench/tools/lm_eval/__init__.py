"""Reading lm-eval, in one place: names of its tasks, their configurations, their data, and what it does to the process."""
