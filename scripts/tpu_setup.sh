#!/usr/bin/env bash
# Sets up grok_jax on this machine and checks that JAX computes where it should.
#
#   scripts/tpu_setup.sh [--platform=tpu|cuda12|cuda13|cpu] [--venv=DIR]
#                        [--python=PYTHON] [--gcs] [--check]
#
# Makes a virtual environment with Python 3.11 or newer (default .venv beside this
# checkout), installs the checkout into it with JAX for the platform (default tpu) and,
# with --gcs, what --workdir=gs://... needs; then asks JAX for its devices and fails
# unless they are of that platform. A second run finds everything done and only checks;
# --check does only that. On several hosts run it on all of them at once.
#
# Exit status: 0 done; 1 it failed, and a sentence says why; 2 wrong usage.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
platform=tpu venv=$root/.venv python='' extras='' check_only=''

fail() {
  echo "tpu_setup: $2" >&2
  exit "$1"
}

for word in "$@"; do
  case $word in
    --platform=*) platform=${word#*=} ;;
    --venv=*) venv=${word#*=} ;;
    --python=*) python=${word#*=} ;;
    --gcs) extras=,gcs ;;
    --check) check_only=yes ;;
    -h | --help)
      sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *) fail 2 "there is no option $word; see --help." ;;
  esac
done
case $platform in
  tpu | cuda12 | cuda13) extras=$platform$extras ;;
  cpu) extras=${extras#,} ;;
  *) fail 2 "--platform is $platform; it must be tpu, cuda12, cuda13 or cpu." ;;
esac

fits() { # whether a Python is new enough and can make environments
  "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
    2>/dev/null
}

find_python() {
  local each
  for each in ${python:-python3.13 python3.12 python3.11 python3}; do
    if fits "$each"; then
      command -v "$each"
      return
    fi
  done
  fail 1 "no Python 3.11 or newer with venv is here${python:+ ($python is not)}. \
Install one (sudo apt-get install python3.11 python3.11-venv, or uv python install 3.12) \
and, where its name is another, give --python=PATH."
}

install() {
  local stamp=$venv/.grok_jax_setup wanted found
  if [ ! -x "$venv/bin/python" ]; then
    found=$(find_python)
    echo "Making $venv with $found"
    "$found" -m venv "$venv"
  fi
  fits "$venv/bin/python" ||
    fail 1 "$venv has a Python older than 3.11; remove it or give another --venv."
  wanted="$root [$extras] $(cksum <"$root/pyproject.toml")"
  if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    echo "$venv is set up already."
    return
  fi
  rm -f "$stamp"
  echo "Installing $root${extras:+ [$extras]} into $venv"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check \
    -e "$root${extras:+[$extras]}" || fail 1 "pip failed; see its message above."
  echo "$wanted" >"$stamp"
}

check() {
  "$venv/bin/python" - "$platform" <<'EOF'
import sys

import jax

from grok_jax.engine import hosts
from grok_jax.settings import SettingError

wanted = sys.argv[1]
backend = wanted if wanted in ("tpu", "cpu") else "gpu"
jax.config.update("jax_platforms", {"gpu": "cuda"}.get(backend, backend))
try:
    hosts.initialize()
    found = jax.default_backend()
    total = float(jax.numpy.ones((256, 256)).sum())
except (RuntimeError, SettingError) as error:
    held = (
        " If another process holds it (one process a TPU host), find it with `sudo lsof"
        " -w /dev/accel* /dev/vfio/*` and end it."
    )
    sys.exit(
        f"tpu_setup: JAX finds no {backend} here: {str(error).splitlines()[0]}."
        f"{held if backend == 'tpu' else ''}"
    )
if found != backend or total != 65536.0:
    sys.exit(f"tpu_setup: JAX computes on {found} and not on {backend}.")
kinds = sorted({device.device_kind for device in jax.local_devices()})
print(
    f"JAX {jax.__version__} on {found}: {jax.local_device_count()} x {', '.join(kinds)};"
    f" process {jax.process_index() + 1} of {jax.process_count()}"
)
EOF
}

if [ -n "$check_only" ]; then
  [ -x "$venv/bin/python" ] || fail 1 "$venv is no virtual environment; leave out --check."
else
  install
fi
check
echo "Ready: . $venv/bin/activate"
