#!/usr/bin/env bash
# sbatch --nodes=2 --ntasks-per-node=4 --cpus-per-task=2 launch/slurm.sh configs/swiss_roll_ring8.yaml [--key=value ...]
#
# One worker per task, over MPI. Site: load modules or activate the environment before sbatch, or name PYTHON; srun
# --mpi=list shows what SRUN_MPI may be: pmix for Open MPI, pmi2 for MPICH and Intel MPI. Where neither works,
# --transport=gloo needs no MPI at all, and --transport=nccl uses one GPU per task.
#SBATCH --job-name=dist_hdnn
#SBATCH --output=dist_hdnn-%j.txt
set -euo pipefail

export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
# Where gloo and nccl meet: a port of this job's own on its first node. MPI does not need it.
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
# --kill-on-bad-exit: one failed worker ends the job step.
exec srun --mpi="${SRUN_MPI:-pmix}" --cpus-per-task="$OMP_NUM_THREADS" --kill-on-bad-exit=1 \
  "${PYTHON:-python}" -m mpi4py -m dist_hdnn train "$@"
