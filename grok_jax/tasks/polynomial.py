"""Polynomial regression on Gaussian inputs (Kumar et al. 2024, Secs. 5 and 15)."""

import jax
import jax.numpy as jnp

from grok_jax.hermite import hermite
from grok_jax.rng import Keys, gaussian_rows, named_key
from grok_jax.settings import Count, HermiteDegree
from grok_jax.types import Dataset, Split


def polynomial(
    keys: Keys,
    *,
    input_dim: Count = 100,
    train_size: Count = 550,
    test_size: Count = 1000,
    directions: Count = 1,
    degree: HermiteDegree = 0,
) -> Dataset:
    """x ~ N(0, I / D), y(x) = sum_k (beta_k . x)^2 / 2 with beta_k ~ N(0, I_D).

    Shapes: x [n, D], y [n]; extras["beta"] [D] is the first direction and
    extras["betas"] [K, D] all of them; extras["square"] [D] is beta, present only if
    y = (beta . x)^2 / 2. For the same seed, a larger train set begins with the smaller
    one, and likewise a test set.

    Args:
      directions: K, for a multi-index target (Sec. 15.1).
      degree: k >= 2 for y = sum_k He_k(beta_k . x) / 2 with |beta_k|^2 = D, so that
        beta_k . x ~ N(0, 1) (Sec. 15.2); 0 for the plain square.
    """
    key = named_key(keys.data, "beta")
    betas = jnp.stack(
        [
            jax.random.normal(key if k == 0 else named_key(key, str(k)), (input_dim,))
            for k in range(directions)
        ]
    )
    if degree:
        betas *= jnp.sqrt(input_dim) / jnp.linalg.norm(betas, axis=1, keepdims=True)

    def split(name: str, size: int) -> Split:
        x = gaussian_rows(named_key(keys.data, name), size, input_dim)
        x = x / jnp.sqrt(input_dim)
        z = jnp.matmul(x, betas.T, precision="highest")
        y = 0.5 * jnp.sum(hermite(degree, z) if degree else z**2, axis=-1)
        return Split(x, y, jnp.ones(size))

    extras = {"beta": betas[0], "betas": betas}
    if directions == 1 and not degree:
        extras["square"] = betas[0]
    return Dataset(split("train", train_size), split("test", test_size), extras)
