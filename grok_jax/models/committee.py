"""The committee machine of Kumar et al. 2024 (Sec. 5) and its variants."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.hermite import hermite
from grok_jax.settings import Count, HermiteDegree, NonNegative, SettingError, lookup
from grok_jax.types import Dataset, Model, Params


def committee(
    *,
    width: Count = 500,
    epsilon: NonNegative = 0.25,
    degree: HermiteDegree = 0,
    readout: Literal["fixed", "trained"] = "fixed",
    aligned_share: NonNegative = 0.0,
) -> Model:
    """f(x) = (1 / N) sum_i v_i phi(w_i . x), phi(h) = h + (epsilon / 2) h^2.

    params {"w": [N, D]}, w_i ~ N(0, I); the paper's prefactor alpha is
    `models.wrappers.scale_output`.

    Args:
      degree: k >= 2 for phi(h) = h + (epsilon / 2) He_k(h) (Sec. 15.2); 0 for the
        plain square.
      readout: `fixed` at 1 (the committee machine), or `trained` from v_i ~ N(0, 1),
        with params {"v": [N]} too (Sec. 12).
      aligned_share: share of an exact solution of the quadratic task that is added to
        the initial weights. The solution has rows +-beta / sqrt(epsilon), alternating,
        so that wbar = 0 and M = beta beta^T / epsilon (Fig. 10, at output scale 1).
    """
    trained = lookup({"fixed": False, "trained": True}, readout, "readout")

    def init(key: Array, x: Array) -> Params:
        params = {"w": jax.random.normal(key, (width, x.shape[-1]))}
        if trained:
            params["v"] = jax.random.normal(jax.random.fold_in(key, 1), (width,))
        return params

    def apply(params: Params, x: Array) -> Array:
        h = jnp.matmul(x, params["w"].T)
        square = hermite(degree, h) if degree else h**2
        unit = h + 0.5 * epsilon * square
        if trained:
            return jnp.matmul(unit, params["v"]) / width
        return jnp.mean(unit, axis=-1)

    def prepare(params: Params, data: Dataset) -> Params:
        if "beta" not in data.extras:  # a task without such a solution
            if isinstance(aligned_share, float) and aligned_share:
                raise SettingError(
                    "model.aligned_share needs a task with a known solution, such as "
                    "task.name polynomial."
                )
            return params
        sign = jnp.where(jnp.arange(width) % 2 == 0, 1.0, -1.0)
        root = jnp.sqrt(jnp.maximum(epsilon, 1e-12))
        solution = jnp.outer(sign, data.extras["beta"] / root)
        return {**params, "w": params["w"] + aligned_share * solution}

    return Model(init, apply, width, prepare=prepare)
