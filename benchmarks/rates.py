"""The rate at which a machine multiplies matrices, and the time that the products of a
step take alone. A step cannot be faster than its products at that rate: the GEMM bound.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from grok_jax.engine.products import Product
from grok_jax.types import Device

GEMM_SIZES, ACCELERATOR_SIZES = (512, 1024, 2048), (2048, 4096, 8192)
"""Sizes of the square products whose best rate counts as the machine's."""
PRECISIONS = ("highest", "high", "default", "bfloat16")
"""Accelerators multiply at a different rate in each; a CPU at the same rate in all."""


def on_every_device(
    body: Callable[[Any], Any], start: Any, devices: Sequence[Device]
) -> Callable[[int], Any]:
    """Returns n -> the result of applying `body` to `start` n times in sequence, on
    each device at once."""
    mesh = Mesh(np.asarray(devices), ("device",))
    once, each = PartitionSpec(), PartitionSpec("device")

    def loop(count: Array, carry: Any) -> Any:
        local = jax.tree.map(lambda leaf: leaf[0], carry)
        local = jax.lax.fori_loop(0, count, lambda _, inner: body(inner), local)
        return jax.tree.map(lambda leaf: leaf[None], local)

    program = jax.jit(
        jax.shard_map(
            loop, mesh=mesh, in_specs=(once, each), out_specs=each, check_vma=False
        )
    )
    copies = jax.tree.map(
        lambda leaf: jax.device_put(
            np.stack([leaf] * len(devices)), NamedSharding(mesh, each)
        ),
        start,
    )
    return lambda count: program(jnp.int32(count), copies)


def by_themselves(
    products: Sequence[Product], devices: Sequence[Device]
) -> Callable[[int], Any]:
    """n -> runs these products in their own shapes n times, on all devices at once."""
    draw = np.random.default_rng(0)

    def small(shape: tuple[int, ...]) -> np.ndarray:  # nothing grows with n
        return draw.uniform(-1, 1, shape).astype(np.float32) / math.prod(shape)

    def multiply(product: Product, left: Array, right: Array) -> Array:
        return jax.lax.dot_general(left, right, product.dimensions)

    lefts = [small(product.left) for product in products]
    rights = [small(product.right) for product in products]
    outs = [
        np.zeros(jax.eval_shape(partial(multiply, product), *pair).shape, np.float32)
        for product, *pair in zip(products, lefts, rights, strict=True)
    ]

    def again(product: Product, left: Array, right: Array, out: Array) -> Any:
        def once(_: Any, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            left, _ = carry
            out = multiply(product, left, right)
            # Each product depends on the last, or XLA would move it out of the loop.
            return left.at[(0,) * left.ndim].set(out.ravel()[0]), out

        if product.times == 1:
            return once(0, (left, out))
        return jax.lax.fori_loop(0, product.times, once, (left, out))

    def body(carry: Any) -> Any:
        lefts, rights, outs = carry
        pairs = [
            again(*each) for each in zip(products, lefts, rights, outs, strict=True)
        ]
        return [left for left, _ in pairs], rights, [out for _, out in pairs]

    return on_every_device(body, (lefts, rights, outs), devices)


def gemm_calls(
    devices: Sequence[Device],
    sizes: Sequence[int] = (),
    precision: str = "highest",
) -> dict[str, tuple[Callable[[], Any], int]]:
    """Calls that multiply square matrices: name -> (a call, its floating-point
    operations). `sweep` multiplies one pair on each device at once, as a sweep does;
    `threads` multiplies one pair on one device, with all of XLA's threads.

    Args:
      sizes: of the matrices; by default those that suit the devices.
      precision: of float32 matrices, as in `jax.lax.Precision`; or `bfloat16`.
    """
    calls: dict[str, tuple[Callable[[], Any], int]] = {}
    half = precision == "bfloat16"
    dtype, how = (jnp.bfloat16, "default") if half else (jnp.float32, precision)
    on_cpu = devices[0].platform == "cpu"
    for size in sizes or (GEMM_SIZES if on_cpu else ACCELERATOR_SIZES):
        square = np.random.default_rng(0).random((size, size), np.float32)
        square = np.asarray(square, dtype)
        times = on_every_device(
            lambda a: jnp.matmul(a, a, precision=how) / a.shape[0], square, devices
        )
        on_first = jax.device_put(square, devices[0])
        one = jax.jit(lambda a: jnp.matmul(a, a, precision=how))
        work = 2 * size**3
        calls[f"threads {size}"] = (lambda f=one, a=on_first: f(a), work)
        if len(devices) > 1:
            calls[f"sweep {size}"] = (lambda f=times: f(1), len(devices) * work)
    return calls
