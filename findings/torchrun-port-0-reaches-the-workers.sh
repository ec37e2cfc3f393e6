#!/usr/bin/env bash
# torch 2.14.1: `torchrun --master-port 0` tells its workers that the port is 0, though it has opened a real one itself.
#
# Expected: port 0 asks for any free port, as in --rdzv-endpoint localhost:0 and --standalone, whose workers get the port that was opened.
# Happens:  MASTER_PORT is 0 in the environment of the workers, at which they cannot meet.
# Seen:     MASTER_PORT of two workers: 0 with --master-port 0, another number with --standalone.
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages torch==2.14.1

cat > worker.py <<'PY'
import os

print("MASTER_PORT is 0" if os.environ["MASTER_PORT"] == "0" else "MASTER_PORT is a port")
PY
for option in "--master-port 0" --standalone; do
    echo "torchrun $option: $("$python" -m torch.distributed.run $option --nproc-per-node 2 worker.py 2>/dev/null | sort -u)"
done | expect "torchrun --master-port 0: MASTER_PORT is 0
torchrun --standalone: MASTER_PORT is a port"
