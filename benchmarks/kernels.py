"""Times empirical NTKs against their own matrix products at this machine's rate."""

import contextlib
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks import rates, timing
from benchmarks.networks import NETWORKS, images
from benchmarks.timing import Row, Setup, as_text
from grok_jax import ntk
from grok_jax.models.committee import committee
from grok_jax.models.transformer import transformer
from grok_jax.ntk import empirical_ntk
from grok_jax.settings import SettingError
from grok_jax.types import Apply, Params


class Kernel(NamedTuple):
    """A call that forms an NTK, and the operations of its products."""

    call: Callable[[], Array]
    flops: int  # of the products of the layers' factors with themselves; see `kernels`


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


def kernels(
    setup: Setup,
    kernels: Mapping[str, Callable[[], Kernel]] = KERNELS,
    sizes: Sequence[int] = (),
) -> Iterator[Row]:
    """Time of an NTK (float32) divided by that of its matrix products, without use of
    symmetry, at the best rate that the same process reaches."""
    made = {name: make() for name, make in kernels.items()}
    gemm = rates.gemm_calls(setup.devices, sizes)
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


def networks(
    setup: Setup,
    python: str = "",
    points: int = 64,
    names: Sequence[str] = tuple(NETWORKS),
    sizes: Sequence[int] = (),
) -> Iterator[Row]:
    """The NTKs of networks that people use, as multiples of the time that
    neural-tangents takes where `python` can import it, else of the product of explicit
    Jacobians on the same JAX. The bound is the operations of one forward pass, one
    backward pass for each output and the rules' products, at the best rate of matrix
    products that the same process reaches."""
    x = images(points)
    gemm = rates.gemm_calls(setup.devices, sizes)
    with _theirs(python) as ask:
        for name, kind in itertools.product(names, ("trace", "full")):
            apply, params = NETWORKS[name]()
            call = partial(empirical_ntk, apply, params, x, kind=kind)
            if ask:
                line = f"{name} {kind} {points}"
                by = f"neural-tangents ({ask(f'choose {line}')})"
                their = partial(ask, f"run {line}")
            else:
                by, their = "Jacobians", _by_jacobians(apply, params, x, kind)
            calls: dict[str, Any] = {"ours": call, "theirs": their}
            calls |= {k: c for k, (c, _) in gemm.items()}
            times = _in_turns(setup, calls)
            rate = max(work / times[k] for k, (_, work) in gemm.items())
            bound = _operations(apply, params, x, kind) / rate
            note = (
                f"{as_text(times['ours'])}; {by} {as_text(times['theirs'])}; "
                f"bound {as_text(bound)} at {rate / 1e9:.0f} Gflop/s"
            )
            ratio = times["ours"] / times["theirs"]
            goal = 0.5 if ask else None
            yield Row(f"ntk_networks/{name}/{kind}", ratio, "x", goal, note)


def _operations(apply: Apply, params: Params, x: Array, kind: ntk.Kind) -> float:
    """See `networks`; two for each multiplication."""
    forward: Any = jax.jit(apply).lower(params, x).compile().cost_analysis()
    outputs = jax.eval_shape(apply, params, x).shape[1]
    rules = sum(leaf.operations for leaf in ntk.explain(apply, params, x, kind=kind))
    return (1 + outputs) * forward["flops"] + 2 * rules


def _by_jacobians(apply: Apply, params: Params, x: Array, kind: str) -> Callable:
    """A call that forms the kernel as J J^T, all of J at once."""
    summed = "ncp,mcp->nm" if kind == "trace" else "ncp,mdp->nmcd"

    def one(params: Params, x: Array) -> Array:
        return apply(params, x[None])[0]

    @jax.jit
    def kernel(params: Params, x: Array) -> Array:
        rows = jax.vmap(jax.jacrev(one), (None, 0))(params, x)
        found = [j.reshape(*j.shape[:2], -1) for j in jax.tree.leaves(rows)]
        with jax.default_matmul_precision("highest"):
            total = jnp.stack([jnp.einsum(summed, j, j) for j in found]).sum(0)
        return total / (found[0].shape[1] if kind == "trace" else 1)

    return partial(kernel, params, x)


@contextlib.contextmanager
def _theirs(python: str) -> Iterator[Callable[[str], str] | None]:
    """A function that sends a line to `their_kernels.py` and waits for the answer; None
    without a Python. Raises SettingError if that one cannot import neural-tangents."""
    if not python:
        yield None
        return
    script = Path(__file__).with_name("their_kernels.py")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    try:
        process = subprocess.Popen(
            [python, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
    except OSError as error:
        raise SettingError(f"--neural_tangents={python}: {error.strerror}.") from error
    assert process.stdin is not None and process.stdout is not None
    to, back = process.stdin, process.stdout

    def ask(line: str) -> str:
        with contextlib.suppress(BrokenPipeError):
            print(line, file=to, flush=True)
        answer = back.readline().strip()
        if not answer:
            raise SettingError(
                f"--neural_tangents={python} ended without a kernel; it must be a "
                "Python with neural-tangents (see benchmarks/their_kernels.py)."
            )
        return answer

    try:
        yield ask
    finally:
        process.kill()
        process.wait()


def _in_turns(setup: Setup, calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    timed = {name: partial(timing.seconds_of, call) for name, call in calls.items()}
    return timing.in_turns(timed, setup.repeats)
