"""`--suite iit`: one model on one benchmark folder: requests, choices extracted from replies, figures, forgetting."""
