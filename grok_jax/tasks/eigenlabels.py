"""Labels from an eigenvector of the initial NTK (Kumar et al. 2024, Sec. 6.1)."""

import jax.numpy as jnp

from grok_jax.rng import Keys, gaussian_rows, named_key
from grok_jax.settings import Count, NonNegative, Rank
from grok_jax.types import Dataset, Split


def eigenlabels(
    keys: Keys,
    *,
    input_dim: Count = 100,
    train_size: Count = 550,
    test_size: Count = 500,
    eigenvector: Rank = 1,
    kernel_epsilon: NonNegative = 0.25,
) -> Dataset:
    """x ~ N(0, I / D); y is the j-th eigenvector, in order of decreasing eigenvalue, of
    the Gram matrix of the committee's initial NTK at infinite width, x.x' + epsilon^2
    (x.x')^2, on all train and test examples; scaled to mean square 1.

    Shapes: x [n, D], y [n]; extras["eigenvalues"] [n] in decreasing order. If j exceeds
    the number of examples, the last eigenvector is taken.

    Args:
      eigenvector: j; larger is harder for the kernel.
    """
    count = train_size + test_size
    x = jnp.concatenate(
        [
            gaussian_rows(named_key(keys.data, name), size, input_dim)
            for name, size in (("train", train_size), ("test", test_size))
        ]
    )
    x = x / jnp.sqrt(input_dim)
    gram = jnp.matmul(x, x.T, precision="highest")
    values, vectors = jnp.linalg.eigh(gram + jnp.square(kernel_epsilon) * gram**2)
    y = jnp.take(vectors, jnp.maximum(count - eigenvector, 0), axis=1)
    y = y * jnp.sqrt(count) * jnp.where(y[0] < 0, -1.0, 1.0)

    def split(rows: slice, size: int) -> Split:
        return Split(x[rows], y[rows], jnp.ones(size))

    return Dataset(
        split(slice(0, train_size), train_size),
        split(slice(train_size, None), test_size),
        {"eigenvalues": values[::-1]},
    )
