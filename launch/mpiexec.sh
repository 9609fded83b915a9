#!/usr/bin/env bash
# launch/mpiexec.sh 4 configs/swiss_roll_ring8.yaml [--key=value ...]
#
# Start this many workers over MPI. Several hosts: MPIEXEC_OPTIONS="-hosts a,b -ppn 2" (MPICH, Intel MPI) or
# "--host a:2,b:2" (Open MPI). mpiexec must belong to the MPI library that mpi4py loads: by default the one beside the
# interpreter, where pip install -e '.[mpi]' puts it; MPIEXEC names another.
# If this host loses its network, its mpiexec may stay when all workers have ended: put `timeout 2h` before it.
# "-m mpi4py" ends all workers when one of them fails before it has joined the others.
set -euo pipefail

workers=${1:?expected the number of workers, then arguments of dist-hdnn train}
shift
python=$(command -v "${PYTHON:-python}")
beside=$(dirname "$python")/mpiexec
[ -x "$beside" ] || beside=mpiexec
# For Open MPI: no binding, which would leave a worker one core for all its threads; allow more workers than cores.
export PRTE_MCA_hwloc_default_binding_policy=${PRTE_MCA_hwloc_default_binding_policy:-none}
if [ -z "${MPIEXEC_OPTIONS:-}" ] && [ "$workers" -gt "$(nproc)" ]; then
  export PRTE_MCA_rmaps_default_mapping_policy=${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}
fi
read -ra options <<<"${MPIEXEC_OPTIONS:-}"
exec "${MPIEXEC:-$beside}" ${options[@]+"${options[@]}"} -n "$workers" "$python" -m mpi4py -m dist_hdnn train "$@"
