"""Times empirical NTKs against their own matrix products at this machine's rate."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.engine import products, timing
from grok_jax.engine.timing import Row, Setup, as_text
from grok_jax.models.committee import committee
from grok_jax.models.transformer import transformer
from grok_jax.ntk import empirical_ntk
from grok_jax.types import Params


class Kernel(NamedTuple):
    """A call that forms an NTK, and the operations of its products."""

    call: Callable[[], Array]
    flops: int  # of the products of the layers' factors with themselves; see `ntk`


def mlp_kernel(widths: Sequence[int] = (784, 200, 200, 10), points: int = 400):
    """The trace NTK of a ReLU network: 2 n^2 (inputs of a layer + C times its outputs)
    operations, summed over layers, without the read-out's outputs, the identity."""
    *keys, x_key = jax.random.split(jax.random.key(0), len(widths))
    layers = [
        jax.random.normal(key, shape) * shape[0] ** -0.5
        for key, shape in zip(keys, itertools.pairwise(widths), strict=True)
    ]

    def mlp(params: list[Array], x: Array) -> Array:
        for weights in params[:-1]:
            x = jax.nn.relu(x @ weights)
        return x @ params[-1]

    x = jax.random.normal(x_key, (points, widths[0]))
    factors = sum(widths[:-1]) + widths[-1] * sum(widths[1:-1])
    return Kernel(partial(empirical_ntk, mlp, layers, x), 2 * points**2 * factors)


def committee_kernel(width: int = 500, inputs: int = 1000, dim: int = 100) -> Kernel:
    """The NTK of a committee machine: 2 n^2 (D + N) operations."""
    key, z_key = jax.random.split(jax.random.key(0))
    model, z = committee(width=width), jax.random.normal(z_key, (inputs, dim))
    call = partial(empirical_ntk, model.apply, model.init(key, z), z)
    return Kernel(call, 2 * inputs**2 * (dim + width))


def transformer_kernel(modulus: int = 113, points: int = 64) -> Kernel:
    """The trace NTK of the one-layer transformer, against the product of its Jacobian
    (n C rows, one column per parameter) with itself: 2 n^2 C P operations, those of a
    kernel from per-sample gradients."""
    model = transformer(vocabulary=modulus + 1)
    key, pairs_key = jax.random.split(jax.random.key(0))
    pairs = jax.random.randint(pairs_key, (points, 2), 0, modulus)
    tokens = jnp.pad(pairs, ((0, 0), (0, 1)), constant_values=modulus)
    params: Params = model.init(key, tokens)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    call = partial(empirical_ntk, model.apply, params, tokens)
    return Kernel(call, 2 * points**2 * (modulus + 1) * size)


KERNELS: Mapping[str, Callable[[], Kernel]] = {
    "mlp": mlp_kernel,
    "committee": committee_kernel,
    "transformer": transformer_kernel,
}


def ntk(
    setup: Setup,
    kernels: Mapping[str, Callable[[], Kernel]] = KERNELS,
    sizes: Sequence[int] = (),
) -> Iterator[Row]:
    """Time of an NTK (float32) divided by that of its matrix products, without use of
    symmetry, at the best rate that the same process reaches."""
    made = {name: make() for name, make in kernels.items()}
    gemm = products.gemm_calls(setup.devices, sizes)
    calls: dict[str, Callable[[], Any]] = {n: kernel.call for n, kernel in made.items()}
    calls |= {kind: call for kind, (call, _) in gemm.items()}
    times = _in_turns(setup, calls)
    rate = max(work / times[kind] for kind, (_, work) in gemm.items())
    for name, kernel in made.items():
        note = f"{as_text(times[name])}; GEMM {rate / 1e9:.0f} Gflop/s"
        yield Row(f"ntk/{name}", times[name] * rate / kernel.flops, "x", None, note)


def inputs(
    setup: Setup, counts: Sequence[int] = (125, 250, 500, 1000, 2000)
) -> Iterator[Row]:
    """Seconds of a committee's NTK (width 500, D = 100) for each number of inputs, and
    of the MLP's for a quarter of it."""
    made = {
        **{f"committee/{n}": committee_kernel(inputs=n) for n in counts},
        **{f"mlp/{n // 4}": mlp_kernel(points=n // 4) for n in counts},
    }
    times = _in_turns(setup, {name: kernel.call for name, kernel in made.items()})
    for name, spent in times.items():
        yield Row(f"ntk_inputs/{name}", spent, "s", None, as_text(spent))


def _in_turns(setup: Setup, calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    timed = {name: partial(timing.seconds_of, call) for name, call in calls.items()}
    return timing.in_turns(timed, setup.repeats)
