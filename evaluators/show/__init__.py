"""Single answers in the terminal: what a model was asked, what it answered, and where two runs differ."""
