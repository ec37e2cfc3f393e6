"""Runs in the formats that others read (docs/how-to/formats.md), a file per format; each names what its format cannot say.

* `export`: `iit-bench export RUN…`: which format, the folder, what the user is told
* `runs`: the runs of an export, and the questions behind them
* `figures`: every figure of every run as one row
* `boards`: the tables of a leaderboard, for print
* `csv_file`, `latex`, `markdown`: those rows and tables as files
* `dialogues`: what was asked and answered, as chats
* `inspect_log`, `inspect_parts`: logs of inspect
* `every_eval_ever`, `eee_samples`: records of Every Eval Ever
* `hub_results`: `.eval_results/` of a model's repository on the Hub
"""
