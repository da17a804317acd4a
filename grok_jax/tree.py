"""Trees of arrays: norm, scale, difference, names of leaves."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.types import Scalar


def norm(tree: Any) -> Array:
    """L2 norm over every leaf at once: THE weight norm, w of Omnigrok.

    >>> float(norm({"w": jnp.array([3.0]), "b": jnp.array([[4.0]])}))
    5.0
    """
    squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(jnp.sum(jnp.stack(squares)))


def scale(tree: Any, factor: Scalar) -> Any:
    """Every leaf times one number, dtypes kept."""
    return jax.tree.map(lambda leaf: (factor * leaf).astype(leaf.dtype), tree)


def subtract(a: Any, b: Any) -> Any:
    """a - b, leaf by leaf."""
    return jax.tree.map(jnp.subtract, a, b)


def select(condition: Array, on_true: Any, on_false: Any) -> Any:
    """`on_true` where the scalar `condition` holds, else `on_false`."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), on_true, on_false)


def flat_names(tree: Any) -> dict[str, Any]:
    """Leaves by name, in tree order.

    >>> list(flat_names({"a": {"b": 1, "c": 2}, "d": (3,)}))
    ['a.b', 'a.c', 'd.0']
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in leaves
    }


class Factors(NamedTuple):
    """A table [V, d] as a product: E = A B of Xu et al. 2025, or A B + rest."""

    a: Array  # [V, r]
    b: Array  # [r, d]
    rest: Array | None = None  # [V, d]


def product(leaf: Any) -> Any:
    """The table of factors, anything else as it is.

    >>> float(product(Factors(jnp.full((1, 2), 3.0), jnp.ones((2, 1)))).item())
    6.0
    """
    if not isinstance(leaf, Factors):
        return leaf
    table = leaf.a @ leaf.b
    return table if leaf.rest is None else table + leaf.rest


def over_factors(function: Any, *trees: Any) -> Any:
    """`function` of every leaf, where factors count as one."""

    def is_factors(leaf: Any) -> bool:
        return isinstance(leaf, Factors)

    return jax.tree.map(function, *trees, is_leaf=is_factors)
