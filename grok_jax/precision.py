"""Helpers for linear algebra in float64 on the host if its arrays are concrete."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike


def host_if_concrete(*arrays: ArrayLike) -> tuple[Any, list[Any]]:
    """(numpy, float64 arrays), or (jax.numpy, the arrays) if any array is traced."""
    if any(isinstance(a, Tracer) for a in arrays):
        return jnp, [jnp.asarray(a) for a in arrays]
    return np, [np.asarray(jax.device_get(a), np.float64) for a in arrays]


def on_device(result: Any) -> Array:
    """The result as a JAX array in JAX's precision, transferred explicitly."""
    return result if isinstance(result, Array) else jax.device_put(result)
