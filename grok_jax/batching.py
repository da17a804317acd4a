"""Predicates that are shared by all runs of a batch.

Under `jax.vmap`, a conditional or a loop whose predicate differs between runs computes
both branches, selects, and batches everything that it reads. With `any_run` around the
predicate it stays one conditional for all runs.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.custom_batching import custom_vmap


@custom_vmap
def any_run(condition: Array) -> Array:
    """Whether `condition` (bool []) holds for any run of the batch: one unbatched value
    under `jax.vmap`, nested or not, and the condition itself outside of it.

    >>> import jax
    >>> jax.vmap(any_run, out_axes=None, axis_size=2)(jnp.array([False, True])).item()
    True
    """
    return condition


@any_run.def_vmap
def _over_runs(axis_size: int, batched: list[bool], condition: Array) -> Any:
    del axis_size
    return any_run(jnp.any(condition, axis=0) if batched[0] else condition), False
