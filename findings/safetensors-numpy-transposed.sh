#!/usr/bin/env bash
# safetensors 0.8.0 with numpy 2.4.6: safetensors.numpy saves a transposed or strided array with its numbers in another order.
#
# Expected: what is loaded equals what was saved, or `save` raises, as safetensors.torch does for a tensor that is not contiguous.
# Happens:  the shape is that of the view, the bytes are those of the memory behind it. Nothing is raised or logged.
# Seen:     a.T and a[:, ::2] come back as other matrices; numpy.ascontiguousarray before saving cures it.
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages safetensors==0.8.0 numpy==2.4.6

"$python" - <<'PY' | expect "transposed: saved [[1, 4], [2, 5], [3, 6]], loaded [[1, 2], [3, 4], [5, 6]]
every second column: saved [[1, 3], [4, 6]], loaded [[1, 2], [3, 4]]
contiguous: saved [[1, 4], [2, 5], [3, 6]], loaded [[1, 4], [2, 5], [3, 6]]"
import numpy as np
from safetensors.numpy import load, save

matrix = np.array([[1, 2, 3], [4, 5, 6]])
views = {"transposed": matrix.T, "every second column": matrix[:, ::2], "contiguous": np.ascontiguousarray(matrix.T)}
for name, view in views.items():
    print(f"{name}: saved {view.tolist()}, loaded {load(save({'x': view}))['x'].tolist()}")
PY
