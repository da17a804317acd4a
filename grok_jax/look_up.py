"""Table look-up whose gradient is bitwise reproducible on every device.

The transpose of a gather is a scatter-add. A CPU adds the rows in order, and fast; a
GPU uses atomics, whose order differs from run to run, and a TPU adds one row after the
other. On those the derivative is a product with a one-hot matrix instead.
"""

import jax
import jax.numpy as jnp
from jax import Array

NAME = "grok_jax_look_up"
"""The name of the call in a jaxpr, by which `ntk` recognises it."""


def look_up(table: Array, rows: Array) -> Array:
    """table[rows] for a table [V, ...] and integers `rows` of any shape; NaN for a row
    out of range, including negative ones.

    Under `vmap` over tables only, all of them share one one-hot matrix. Its product has
    the precision of `jax.default_matmul_precision`.

    >>> print(look_up(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 0, 1])))
    [[3. 4.]
     [1. 2.]
     [3. 4.]]
    """
    return _look_up(table, rows)


def _gather(table: Array, rows: Array) -> Array:
    return table.at[rows].get(
        mode="fill", fill_value=jnp.nan, wrap_negative_indices=False
    )


def _product(table: Array, one_hot: Array) -> Array:
    return jnp.tensordot(one_hot, table, axes=1)


_rule = jax.custom_jvp(_gather)


@_rule.defjvp
def _derivative(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (table, rows), (tangent, _) = primals, tangents
    # Formed outside the branches, so that they are linear and save nothing else for the
    # backward pass; on a CPU it is unused and the compiler removes it.
    one_hot = jax.nn.one_hot(rows, len(table), dtype=tangent.dtype)
    moved = jax.lax.platform_dependent(
        tangent,
        rows,
        one_hot,
        cpu=lambda t, rows, _: _gather(t, rows),
        default=lambda t, _, one_hot: _product(t, one_hot),
    )
    return look_up(table, rows), moved


def _named(table: Array, rows: Array) -> Array:
    return _rule(table, rows)


_named.__name__ = _named.__qualname__ = NAME
_look_up = jax.jit(_named)
