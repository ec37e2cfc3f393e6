"""The page's parts about text-only tasks and VQA data sets."""
