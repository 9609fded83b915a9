#!/usr/bin/env bash
# sbatch --nodes=2 --ntasks-per-node=4 --cpus-per-task=2 launch/slurm.sh configs/swiss_roll_ring8.yaml [--key=value ...]
#
# One worker per task, over MPI. Site: load modules or activate the environment before sbatch, or name PYTHON; srun
# --mpi=list shows the choices for SRUN_MPI: pmix for Open MPI, pmi2 for MPICH and Intel MPI. Where neither works,
# --transport=gloo needs no MPI at all, and --transport=nccl uses one GPU per task.
# Two minutes before its time limit the run stops with a checkpoint, and the job is requeued; it then resumes in
# the same run directory, OUTPUT, as it does after a lost node.
#SBATCH --job-name=dist_hdnn
#SBATCH --output=dist_hdnn-%j.txt
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -uo pipefail

export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
output=${OUTPUT:-runs/slurm-$SLURM_JOB_ID}
# Where gloo and nccl meet: this job's own port on its first node. MPI does not need it.
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
# --kill-on-bad-exit: one failed worker ends the job step.
srun --mpi="${SRUN_MPI:-pmix}" --cpus-per-task="$OMP_NUM_THREADS" --kill-on-bad-exit=1 \
  "${PYTHON:-python}" -m mpi4py -m dist_hdnn train "$@" --output="$output" --resume=auto
code=$?
# 75: stopped with a checkpoint; above 128: srun has killed the last of the tasks that stopped.
if [ $code -eq 75 ] || { [ $code -gt 128 ] && grep -qs '"status": "stopped"' "$output/summary.json"; }; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
