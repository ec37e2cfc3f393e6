"""The caller's random numbers, kept from tools that seed every generator of the process."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Python's, numpy's and torch's generators (those of the GPUs too, once CUDA is in use) are afterwards as they were before."""
    import numpy as np
    import torch

    python, numbers = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)
