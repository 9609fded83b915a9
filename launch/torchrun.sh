#!/usr/bin/env bash
# launch/torchrun.sh 4 configs/swiss_roll_ring8.yaml [--key=value ...]
#
# Start this many workers on this machine with torchrun; on CPUs they share memory. Shorter, and without
# torchrun: dist-hdnn train CONFIG --workers 4. torchrun gives every worker one thread unless OMP_NUM_THREADS is set.
# RESTARTS=3 restarts all workers when one fails; add --output=DIR --resume=auto, so that they resume.
# Python: the one on the path, or PYTHON.
set -euo pipefail

workers=${1:?expected the number of workers, then arguments of dist-hdnn train}
shift
exec "${PYTHON:-python}" -m torch.distributed.run --standalone --max-restarts="${RESTARTS:-0}" \
  --nproc-per-node="$workers" -m dist_hdnn train "$@"
