"""The committee machine of Kumar et al. 2024 (Sec. 5)."""

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.settings import Count, NonNegative
from grok_jax.types import Model


def committee(*, width: Count = 500, epsilon: NonNegative = 0.25) -> Model:
    """f(x) = (1 / N) sum_i phi(w_i . x), phi(h) = h + (epsilon / 2) h^2.

    Read-outs are fixed to 1; params {"w": [N, D]} with w_i ~ N(0, I). The paper's
    prefactor alpha is `models.wrappers.scale_output`.
    """

    def init(key: Array, x: Array) -> dict[str, Array]:
        return {"w": jax.random.normal(key, (width, x.shape[-1]))}

    def apply(params: dict[str, Array], x: Array) -> Array:
        h = jnp.matmul(x, params["w"].T)
        return jnp.mean(h + 0.5 * epsilon * h**2, axis=-1)

    return Model(init, apply, width)
