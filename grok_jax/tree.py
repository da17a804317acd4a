"""What optax.tree lacks: a scale that keeps dtypes, leaf names, random keys that can be
saved, factored tables."""

from typing import Any, NamedTuple

import jax
from jax import Array

from grok_jax.types import Scalar


def scale(tree: Any, factor: Scalar) -> Any:
    """Multiplies every leaf by one number and keeps dtypes."""
    return jax.tree.map(lambda leaf: (factor * leaf).astype(leaf.dtype), tree)


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


def without_keys(tree: Any) -> Any:
    """A tree with random keys (`jax.random.key`) as the integers that they stand for,
    which can be saved."""
    return jax.tree.map(
        lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, tree
    )


def with_keys(tree: Any, like: Any) -> Any:
    """The inverse of `without_keys`, for a tree of these arrays or shapes."""

    def one(leaf: Any, like: Any) -> Any:
        if not _is_key(like):
            return leaf
        impl: list[Any] = []  # a shape does not tell it, a traced array does
        jax.eval_shape(lambda keys: impl.append(jax.random.key_impl(keys)), like)
        return jax.random.wrap_key_data(leaf, impl=impl[0])

    return jax.tree.map(one, tree, like)


def _is_key(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jax.numpy.issubdtype(dtype, jax.dtypes.prng_key)


class Factors(NamedTuple):
    """A factored table [V, d]: E = A B of Xu et al. 2025, or A B + rest."""

    a: Array  # [V, r]
    b: Array  # [r, d]
    rest: Array | None = None  # [V, d]


def product(leaf: Any) -> Any:
    """The table of factors; any other leaf unchanged.

    >>> import jax.numpy as jnp
    >>> float(product(Factors(jnp.full((1, 2), 3.0), jnp.ones((2, 1)))).item())
    6.0
    """
    if not isinstance(leaf, Factors):
        return leaf
    table = leaf.a @ leaf.b
    return table if leaf.rest is None else table + leaf.rest


def over_factors(function: Any, *trees: Any) -> Any:
    """Applies `function` to every leaf, where `Factors` count as one leaf."""

    def is_factors(leaf: Any) -> bool:
        return isinstance(leaf, Factors)

    return jax.tree.map(function, *trees, is_leaf=is_factors)
