#!/usr/bin/env bash
# make test-wheel: what a user gets who installs the wheel and has no checkout. Everything it makes is removed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
unset PYTHONPATH

"${PYTHON:-python3}" -m venv "$place/venv"
pip=("$place/venv/bin/python" -m pip --quiet --disable-pip-version-check)
"${pip[@]}" wheel --no-deps --wheel-dir "$place" --constraint "$root/constraints.txt" "$root"
"${pip[@]}" install --constraint "$root/constraints.txt" ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$place"/*.whl

mkdir "$place/elsewhere" && cd "$place/elsewhere"
export PATH="$place/venv/bin:$PATH"
dist-hdnn doctor | grep -E 'dist_hdnn|torch|llvmlite'
dist-hdnn train swiss_roll_ring8 --train.epochs=1 --data.samples=200
dist-hdnn evaluate swiss_roll_ring8
printf 'x1,x2\n0.1,0.2\n-0.5,0.4\n' >readings.csv
[ "$(dist-hdnn predict swiss_roll_ring8 readings.csv | wc -l)" = 3 ]
dist-hdnn export swiss_roll_ring8 --output=exported
dist-hdnn study digits_density --max-trials=2 --train.epochs=1 --network.layers=2
test -s runs/studies/digits_density/results.csv
python - <<'PROGRAM'
from importlib.util import find_spec
from pathlib import Path

import dist_hdnn

assert find_spec("llvmlite"), "the wheel brings llvmlite where it has one"
assert (Path(dist_hdnn.__file__).parent / "py.typed").is_file()
print(dist_hdnn.HDNN(dist_hdnn.ring(4), width=2, layers=2, step=0.5))
PROGRAM
echo "The wheel works outside the checkout."
