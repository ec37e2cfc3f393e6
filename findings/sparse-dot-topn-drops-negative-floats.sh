#!/usr/bin/env bash
# sparse_dot_topn 1.2.0: without a threshold, sp_matmul_topn drops negative results of floats and keeps those of integers.
#
# Expected: the two largest of (-1, -2, -3) are (-1, -2), whatever the number type; no threshold means no threshold.
# Happens:  for floats the row comes back empty, as if nothing were similar; for integers it is (-1, -2). threshold=-inf, given by hand,
#           brings the floats back.
# Seen:     see below. Cosine similarities of embeddings can be negative, those of TF-IDF cannot: the first lose neighbours in silence.
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages sparse_dot_topn==1.2.0 scipy==1.17.1 numpy==2.4.6

"$python" - <<'PY' | expect "int64: [-1, -2]
float64: []
float64, threshold -inf: [-1.0, -2.0]
float32: []
float32, threshold -inf: [-1.0, -2.0]"
import numpy as np
from scipy.sparse import csr_matrix
from sparse_dot_topn import sp_matmul_topn

one, three = np.array([[1]]), np.array([[-1, -2, -3]])
for kind in ("int64", "float64", "float32"):
    left, right = csr_matrix(one.astype(kind)), csr_matrix(three.astype(kind))
    print(f"{kind}: {sp_matmul_topn(left, right, top_n=2, sort=True).data.tolist()}")
    if kind != "int64":
        found = sp_matmul_topn(left, right, top_n=2, sort=True, threshold=-np.inf)
        print(f"{kind}, threshold -inf: {found.data.tolist()}")
PY
