"""Empirical neural tangent kernels of any function, and what is computed from them.

The kernel is K(x, x') = <df(x)/dtheta, df(x')/dtheta> (Jacot et al. 2018). Dense
layers, convolutions and embeddings, tied or not, also under scans, are contracted layer
by layer from their inputs and back-propagated signals (`factors.py`); all other
parameters use explicit gradients; the two agree, and `explain` says which leaf goes
which way.

Samples are independent: row i is `apply_fn(params, x[i:i+1])[0]` and its gradient,
whatever apply_fn does with a batch (a BatchNorm in train mode sees batches of one).
Inside the kernel, matrix products run at the highest precision of the device.

Memory: a kernel is computed one block of rows and columns at a time. The block size is
free; by default it is the largest that fits in `MEMORY_BUDGET` (see `predicted_bytes`).
"""

from grok_jax.ntk.empirical import (
    MEMORY_BUDGET,
    empirical_ntk,
    flatten_kernel,
    layer_ntks,
    predicted_bytes,
)
from grok_jax.ntk.explain import Explanation, Leaf, explain
from grok_jax.ntk.inputs import Kind
from grok_jax.ntk.lazy import kernel_regression, lazy_dynamics, linearize
from grok_jax.ntk.matrix_free import (
    Eigenpairs,
    Spectrum,
    linear_operator,
    ntk_vector_product,
    spectrum,
    top_eigenpairs,
)
from grok_jax.ntk.networks import of, only
from grok_jax.ntk.statistics import Statistics, kernel_statistics
from grok_jax.ntk.store import store_ntk

__all__ = [
    "Kind",
    "MEMORY_BUDGET",
    "empirical_ntk",
    "layer_ntks",
    "flatten_kernel",
    "predicted_bytes",
    "store_ntk",
    "explain",
    "Explanation",
    "Leaf",
    "of",
    "only",
    "ntk_vector_product",
    "linear_operator",
    "kernel_statistics",
    "Statistics",
    "Spectrum",
    "spectrum",
    "top_eigenpairs",
    "Eigenpairs",
    "linearize",
    "kernel_regression",
    "lazy_dynamics",
]
