#!/usr/bin/env bash
# launch/torchrun.sh 4 configs/swiss_roll_ring8.yaml [--key=value ...]
#
# So many workers on this machine, started by torchrun; they talk over gloo, on loopback only. Shorter, and without
# torchrun: dist-hdnn train CONFIG --workers 4. torchrun gives every worker one thread unless OMP_NUM_THREADS is set.
# RESTARTS=3 lets it start all of them again when one fails; give --output=DIR --resume=auto, so that they go on.
# Python: the one on the path, or the one named in PYTHON.
set -euo pipefail

workers=${1:?expected the number of workers, then what dist-hdnn train takes}
shift
exec "${PYTHON:-python}" -m torch.distributed.run --standalone --max-restarts="${RESTARTS:-0}" \
  --nproc-per-node="$workers" -m dist_hdnn train "$@"
