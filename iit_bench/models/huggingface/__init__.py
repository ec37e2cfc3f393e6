"""`hf:PATH_OR_HUB_ID`: causal LMs and image-text models of transformers."""
