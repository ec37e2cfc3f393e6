"""Run folders: options, run.json, sessions under a lock, reading, results that other tools wrote, summaries."""
