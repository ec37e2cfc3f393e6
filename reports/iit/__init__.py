"""The page's parts about IIT runs."""
