"""Other tools' machinery (lm-eval, VLMEvalKit), read in one place each, and the processes they run in."""
