"""Two dense layers with quadratic activation (Gromov 2023; Kumar et al. 2024, 8.3)."""

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.settings import Count, Natural
from grok_jax.types import Model


def quadratic(*, width: Count = 100, outputs: Natural = 0) -> Model:
    """f(x) [n, C] = (1 / N) V (W x)^2; params {"w": [N, D], "v": [C, N]} ~ N(0, 1).

    C is `outputs`; with 0, f is [n] and C = 1. In an experiment 0 is that of the data.
    """

    def init(key: Array, x: Array) -> dict[str, Array]:
        return {
            "w": jax.random.normal(key, (width, x.shape[-1])),
            "v": jax.random.normal(jax.random.fold_in(key, 1), (outputs or 1, width)),
        }

    def apply(params: dict[str, Array], x: Array) -> Array:
        hidden = jnp.matmul(x, params["w"].T) ** 2
        f = jnp.matmul(hidden, params["v"].T) / width
        return f if outputs else f[:, 0]

    return Model(init, apply, width)
