"""`vllm:PATH_OR_HUB_ID`: checkpoints run by vLLM in this process."""
