"""Kernels by neural-tangents, in a Python of its own with an old JAX.

Reads lines from the standard input and answers each with one line:

    choose NETWORK KIND N   times its implementations 1 and 3 once, after compilation;
                            answers with the faster one's number
    run NETWORK KIND N      forms that kernel by the chosen one

Its implementation 2 (products with J^T) is left out: on the LeNet and the ViT it took
40 to 50 times as long as the best, and on the ResNet it compiles for minutes.

Made by:  python -m venv nt && nt/bin/pip install jax==0.4.25 jaxlib==0.4.25 \
              neural-tangents==0.6.5 'numpy<2' 'scipy<1.13'
"""

import sys
import time
from pathlib import Path

import jax
import neural_tangents as nt  # pyright: ignore[reportMissingImports]

sys.path.insert(0, str(Path(__file__).parent))
from networks import NETWORKS, images

CHOSEN = {}


def choose(name, kind, n):
    apply, params = NETWORKS[name]()
    x = images(n)
    best = None
    for implementation in (1, 3):
        kernel = jax.jit(
            nt.empirical_ntk_fn(
                apply,
                trace_axes=(-1,) if kind == "trace" else (),
                vmap_axes=0,
                implementation=implementation,
            )
        )

        def call(kernel=kernel):
            return kernel(x, None, params)

        try:
            jax.block_until_ready(call())
            start = time.perf_counter()
            jax.block_until_ready(call())
        except Exception as error:  # out of memory, mostly
            print(implementation, error, file=sys.stderr)
            continue
        seconds = time.perf_counter() - start
        if best is None or seconds < best[0]:
            best = seconds, implementation, call
    CHOSEN[name, kind, n] = best[2]
    return best[1]


for line in sys.stdin:
    what, name, kind, n = line.split()
    key = name, kind, int(n)
    if what == "choose":
        print(choose(*key), flush=True)
    else:
        jax.block_until_ready(CHOSEN[key]())
        print("done", flush=True)
