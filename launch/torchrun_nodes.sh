#!/usr/bin/env bash
# NODES=2 NODE=0 ADDRESS=10.0.0.1 launch/torchrun_nodes.sh 4 configs/swiss_roll_ring8.yaml [--key=value ...]
#
# Run it on every node, with NODE=0, 1, ... and the address of node 0: this many workers per node, which share memory
# inside a node and use gloo between nodes. Node 0 holds worker 0, which writes the run directory. All nodes need the
# same config, code and data files.
# If a node's host name does not resolve to the address that the others reach (often 127.0.1.1), also set
# GLOO_SOCKET_IFNAME=eth0, or whatever its network is called; otherwise some nodes wait forever.
# If node 0 loses its network, torchrun may stay on other nodes when all workers have ended: put `timeout 2h` before it.
set -euo pipefail

workers=${1:?expected the number of workers per node, then arguments of dist-hdnn train}
shift
# Without it, a restart finds the addresses of the workers that have died (pytorch#167288).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NODES:?how many nodes}" --node-rank="${NODE:?which one this is, from 0}" \
  --master-addr="${ADDRESS:?address of node 0}" --master-port="${PORT:-29500}" \
  --nproc-per-node="$workers" -m dist_hdnn train "$@"
