"""iit-bench: evaluate what multimodal LLMs forget."""

__version__ = "0.1.0"
