"""Random states of the caller, restored after tools that seed every generator of the process."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Restores the states of Python's, numpy's and torch's generators on exit; those of the GPUs too, if CUDA is in use."""
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
