"""Checks and normalises the inputs of the functions in this package."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from grok_jax.settings import nearest
from grok_jax.types import Apply, Params

Kind = Literal["full", "diagonal", "trace", "pseudo"]


def check_kind(kind: str) -> None:
    """Raises ValueError for an unknown kind."""
    kinds = get_args(Kind)
    if kind not in kinds:
        raise ValueError(f"Unknown kind {kind!r}; {nearest(str(kind), kinds)}.")


def check_settings(kind: str, block_size: int | None) -> None:
    """Raises ValueError for an unknown kind and for a block without rows."""
    check_kind(kind)
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size must be 1 or more; got {block_size}.")


def check_inputs(x1: ArrayLike, x2: ArrayLike | None) -> tuple[Array, Array | None]:
    """x1 and x2 as arrays of the same dtype, with rows of the same shape."""
    x1 = jnp.asarray(x1)
    if x2 is not None:
        x2 = jnp.asarray(x2)
        if x1.shape[1:] != x2.shape[1:]:
            raise ValueError(
                "The rows of x1 and x2 must have one shape; got "
                f"{x1.shape[1:]} and {x2.shape[1:]}."
            )
        dtype = jnp.promote_types(x1.dtype, x2.dtype)
        x1, x2 = x1.astype(dtype), x2.astype(dtype)
    for name, x in (("x1", x1), ("x2", x2)):
        if x is not None and (x.ndim == 0 or len(x) == 0):
            raise ValueError(f"{name} must have at least one row; got shape {x.shape}.")
    return x1, x2


def per_sample(
    apply_fn: Apply, params: Params
) -> tuple[Callable[[Sequence[Array], Array], Array], list[Array], tuple[int, ...]]:
    """Returns (floating leaves, x [...]) -> f [C], those leaves, and their indices."""
    every, structure = jax.tree.flatten(params)
    every = [jnp.asarray(leaf) for leaf in every]
    places = floating(every)
    if any(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in every):
        raise ValueError("Complex parameters are not supported; split them in two.")
    if not places:
        raise ValueError("params has no floating leaf, so there is no gradient.")

    def outputs(leaves: Sequence[Array], x: Array) -> Array:
        merged = structure.unflatten(replace(every, places, leaves))
        out = apply_fn(merged, x[None])
        returned = getattr(out, "shape", type(out).__name__)
        if isinstance(returned, str) or len(returned) not in (1, 2) or returned[0] != 1:
            raise ValueError(
                "apply_fn must map x [n, ...] to [n] or [n, C]; for one row, "
                f"{(1, *x.shape)}, it returned {returned}."
            )
        return out.reshape(-1)

    return outputs, [every[i] for i in places], places


def floating(leaves: Sequence[Array]) -> tuple[int, ...]:
    """The indices of the floating leaves."""
    return tuple(
        i for i, p in enumerate(leaves) if jnp.issubdtype(p.dtype, jnp.floating)
    )


def replace(
    every: Sequence[Array], places: Sequence[int], leaves: Sequence[Array]
) -> list[Array]:
    """All leaves, with those at the given indices replaced."""
    merged = list(every)
    for place, leaf in zip(places, leaves, strict=True):
        merged[place] = leaf
    return merged
