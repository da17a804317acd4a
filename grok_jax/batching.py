"""What the runs of a batch decide together.

A conditional or a loop whose predicate differs between the runs of a `jax.vmap` takes
both branches, selects, and batches everything that it reads. With `any_run` around the
predicate it stays one conditional for all of them.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.custom_batching import custom_vmap


@custom_vmap
def any_run(condition: Array) -> Array:
    """Whether `condition` (bool []) holds for any run of the batch: under `jax.vmap`,
    nested too, one value that is not batched; the condition itself outside of it.

    >>> import jax
    >>> jax.vmap(any_run, out_axes=None, axis_size=2)(jnp.array([False, True])).item()
    True
    """
    return condition


@any_run.def_vmap
def _over_runs(axis_size: int, batched: list[bool], condition: Array) -> Any:
    del axis_size
    return any_run(jnp.any(condition, axis=0) if batched[0] else condition), False
