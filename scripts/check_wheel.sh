#!/usr/bin/env bash
# Builds wheel and sdist, checks both, and tries the wheel as a stranger would: in an
# empty environment and an empty folder, without the checkout.
#
#   scripts/check_wheel.sh [--python=python3] [--out=DIR]
#
# --out keeps what was built. Exit status: 0 all is well; 1 something failed; 2 wrong
# usage.
set -euo pipefail

python=python3 out=''
while [ $# -gt 0 ]; do
  case $1 in
    --python=*) python=${1#*=} ;;
    --out=*) out=${1#*=} ;;
    *) echo "check_wheel: there is no option $1." >&2 && exit 2 ;;
  esac
  shift
done

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "check_wheel: $*" >&2 && exit 1; }

"$python" -m venv "$work/tools"
"$work/tools/bin/pip" install -q build twine
"$work/tools/bin/python" -m build --outdir "$work/dist" "$root" >"$work/build.log" 2>&1 ||
  { cat "$work/build.log" >&2 && fail "it does not build."; }
"$work/tools/bin/twine" check --strict "$work"/dist/*
wheel=$(echo "$work"/dist/*.whl)
size=$(wc -c <"$wheel")
[ "$size" -lt 2000000 ] || fail "the wheel has $size bytes."

"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q "$wheel"
mkdir "$work/empty" "$work/home"
cd "$work/empty"
unset PYTHONPATH
export HOME="$work/home" PATH="$work/venv/bin:$PATH"
grok-jax --version
grok-jax run k3_laziness:smoke
for file in results.nc claims.json config.json figures/figure.png; do
  test -s "runs/k3_laziness_smoke/$file" || fail "there is no $file."
done
grok-jax watch runs/k3_laziness_smoke --once
grok-jax report runs/k3_laziness_smoke --out=report
test -s report/index.html || fail "there is no report."
grok-jax gallery --only=k3_laziness --preset=smoke --out=gallery
test -s gallery/index.html || fail "there is no gallery."
python -c 'import grok_jax; assert grok_jax.__file__.startswith("'"$work"'/venv")'
pages=$(grok-jax pages | grep -c '^  ')
shipped=$(find "$root"/experiments/*/ -name '*.py' | wc -l)
[ "$pages" -eq "$shipped" ] || fail "the wheel has $pages pages of $shipped."
[ "$(ls)" = "$(printf 'gallery\nreport\nruns')" ] || fail "it also wrote: $(ls)."
if [ -n "$out" ]; then
  mkdir -p "$out"
  cp "$work"/dist/* "$out"
fi
echo "check_wheel: $(basename "$wheel"), $size bytes, $pages pages: all is well."
