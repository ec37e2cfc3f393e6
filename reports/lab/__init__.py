"""The page of the experiment: cells of `iit-bench lab` → one page that opens from disk."""
