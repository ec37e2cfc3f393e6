"""LLaVA-style as LLaVA itself is tuned: in stage 2 the projector and the LLM have one learning rate.

Stage 1 is that of `llava` (recipe lab-llava-one-rate; shipped as `llava-one-rate`).
"""

from __future__ import annotations

from iit_bench.training.rivals.llava import Llava


class LlavaOneRate(Llava):
    """One learning rate for projector and LLM."""
