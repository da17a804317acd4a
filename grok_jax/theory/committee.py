"""The quadratic committee machine in closed form (Kumar et al. 2024, Secs. 5, 11, 12).

    f(x) = (alpha / N) sum_i phi(w_i . x),   phi(h) = h + (epsilon / 2) h^2
         = alpha wbar . x + (alpha epsilon / 2) x^T M x

with wbar = mean_i w_i and M = mean_i w_i w_i^T. Inputs are N(0, I / D) and the target
is y(x) = (beta . x)^2 / 2. The test loss, the NTK and the trajectory of full-batch
gradient descent are functions of (wbar, M) alone: a phase diagram needs no network.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from grok_jax.settings import Natural, NonNegative, Positive
from grok_jax.types import Dynamics, Model, Scalar, Velocity


class Risk(NamedTuple):
    """The three terms of the population risk; their sum is the mean squared error."""

    variance_error: Array
    misalignment_error: Array
    linear_power: Array

    @property
    def total(self) -> Array:
        return self.variance_error + self.misalignment_error + self.linear_power


def summary_statistics(w: ArrayLike, readout: ArrayLike | None = None):
    """(wbar [D], M [D, D]) of hidden weights w [N, D].

    With trained read-outs v [N] the statistics are wbar = mean_i v_i w_i and
    M = mean_i v_i w_i w_i^T (eq. 22); fixed read-outs have v = 1.

    >>> wbar, m = summary_statistics(jnp.array([[1.0, 0.0], [0.0, 3.0]]))
    >>> wbar.tolist(), m.tolist()
    ([0.5, 1.5], [[0.5, 0.0], [0.0, 4.5]])
    """
    w = jnp.asarray(w)
    weighted = w if readout is None else jnp.asarray(readout)[:, None] * w
    wbar = jnp.mean(weighted, axis=0)
    m = jnp.matmul(weighted.T, w, precision="highest") / w.shape[0]
    return wbar, m


def predict(
    wbar: ArrayLike, m: ArrayLike, x: ArrayLike, alpha: Scalar, epsilon: Scalar
) -> Array:
    """f(x) [n] = alpha wbar . x + (alpha epsilon / 2) x^T M x for x [n, D]."""
    x = jnp.asarray(x)
    quadratic = jnp.sum(x * jnp.matmul(x, m, precision="highest"), axis=-1)
    linear = jnp.matmul(x, wbar, precision="highest")
    return alpha * linear + 0.5 * alpha * epsilon * quadratic


def population_risk(
    wbar: ArrayLike,
    m: ArrayLike,
    beta: ArrayLike,
    alpha: Scalar,
    epsilon: Scalar,
) -> Risk:
    """The mean squared error over x ~ N(0, I / D), as its three terms (eq. 6).

    variance_error     = (|beta|^2 / D - (alpha epsilon / D) Tr M)^2 / 4
    misalignment_error = |alpha epsilon M - beta beta^T|_F^2 / (2 D^2)
    linear_power       = (alpha^2 / D) |wbar|^2

    Args: wbar [D], m [D, D], beta [D]. Exact for any statistics, at any width.

    >>> beta = jnp.array([1.0, 2.0])
    >>> m = jnp.outer(beta, beta) / 0.5
    >>> float(population_risk(jnp.zeros(2), m, beta, alpha=2, epsilon=0.25).total)
    0.0
    """
    wbar, m, beta = jnp.asarray(wbar), jnp.asarray(m), jnp.asarray(beta)
    dim = beta.shape[0]
    quadratic = alpha * epsilon * m
    trace_gap = (jnp.sum(beta**2) - jnp.trace(quadratic)) / dim
    matrix_gap = quadratic - jnp.outer(beta, beta)
    return Risk(
        variance_error=0.25 * trace_gap**2,
        misalignment_error=jnp.sum(matrix_gap**2) / (2 * dim**2),
        linear_power=alpha**2 * jnp.sum(wbar**2) / dim,
    )


def ntk(
    wbar: ArrayLike,
    m: ArrayLike,
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    epsilon: Scalar,
) -> Array:
    """The NTK [n1, n2] from the statistics, without its prefactor alpha^2 / N.

    K(x, x') = x.x' (1 + epsilon wbar.(x + x') + epsilon^2 x^T M x')   (eqs. 5, 18)
    """
    x1 = jnp.asarray(x1)
    x2 = x1 if x2 is None else jnp.asarray(x2)
    wbar, m = jnp.asarray(wbar), jnp.asarray(m)
    gram = jnp.matmul(x1, x2.T, precision="highest")
    linear1, linear2 = (jnp.matmul(x, wbar, precision="highest") for x in (x1, x2))
    x1_m = jnp.matmul(x1, m, precision="highest")
    mixed = jnp.matmul(x1_m, x2.T, precision="highest")
    slope = 1 + epsilon * (linear1[:, None] + linear2[None, :]) + epsilon**2 * mixed
    return gram * slope


def initial_spectrum(dim: int, epsilon: Scalar) -> dict[str, Array]:
    """Eigenvalues of the infinite-width NTK at initialisation under x ~ N(0, I / D).

    Linear functions have 1 / D, traceless quadratic functions 2 epsilon^2 / D^2, and
    |x|^2 about epsilon^2 (1 / D) (1 + 2 / D). (The paper's text has 2 epsilon / D^2 in
    one place; its derivation gives epsilon^2, and so does the kernel.)
    """
    square = jnp.square(jnp.asarray(epsilon))
    return {
        "linear": jnp.asarray(1 / dim),
        "traceless_quadratic": 2 * square / dim**2,
        "norm": square / dim * (1 + 2 / dim),
    }


def gradient_step(
    wbar: ArrayLike,
    m: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    alpha: Scalar,
    epsilon: Scalar,
    eta0: Scalar,
) -> tuple[Array, Array]:
    """The exact (wbar, M) after one full-batch step at rate eta = eta0 N / alpha^2.

    With r = f - y over x [P, D], y [P], c = 2 eta alpha / (N P) = 2 eta0 / (alpha P),
    g = X^T r, G = X^T diag(r) X and A = I - c epsilon G, each weight moves to
    A w_i - c g, so that

        wbar' = A wbar - c g
        M'    = A M A - c (A wbar g^T + g (A wbar)^T) + c^2 g g^T

    A step takes O(P D^2 + D^3) at any width; wbar = 0, M = I is infinite width.
    """
    wbar, m, x = jnp.asarray(wbar), jnp.asarray(m), jnp.asarray(x)
    residual = predict(wbar, m, x, alpha, epsilon) - y
    g = jnp.matmul(x.T, residual, precision="highest")
    g_matrix = jnp.matmul(x.T, x * residual[:, None], precision="highest")
    c = 2 * eta0 / (alpha * x.shape[0])

    def transport(v: Array) -> Array:  # A v
        return v - c * epsilon * jnp.matmul(g_matrix, v, precision="highest")

    moved = transport(wbar)
    cross = jnp.outer(moved, g)
    spread = transport(transport(m).T)  # A M A, as M and A are symmetric
    return moved - c * g, spread - c * (cross + cross.T) + c**2 * jnp.outer(g, g)


def statistics_of(params: dict[str, Array]) -> tuple[Array, Array]:
    """(wbar, M) of the parameters of a committee or of `exact_dynamics`."""
    if "factor" in params:
        wbar, factor = params["wbar"], params["factor"]
        covariance = jnp.matmul(factor, factor.T, precision="highest")
        return wbar, covariance + jnp.outer(wbar, wbar)
    return summary_statistics(params["w"], params.get("v"))


def factored(wbar: ArrayLike, m: ArrayLike) -> dict[str, Array]:
    """The parameters {"wbar": [D], "factor": [D, D]} of `exact_dynamics` with these
    statistics; the inverse of `statistics_of`."""
    wbar = jnp.asarray(wbar)
    values, vectors = jnp.linalg.eigh(jnp.asarray(m) - jnp.outer(wbar, wbar))
    root = jnp.sqrt(jnp.maximum(values, 0))
    return {"wbar": wbar, "factor": vectors * root[None, :]}


def exact_dynamics(*, width: Natural = 0, epsilon: NonNegative = 0.25) -> Model:
    """A model whose parameters are the statistics and whose gradient descent is exact.

    It replaces `models.committee` in a sweep with optimizer.rule lazy, with the same
    predictions and losses but without a network. width = 0 is infinite width (wbar = 0,
    M = I); other widths start from the statistics of the weights that a committee of
    that width draws with the same key.

    M is stored as F F^T + wbar wbar^T. As a step takes every weight from w_i to
    A w_i - c g (`gradient_step`), it takes the covariance C of the weights to A C A,
    and F to A F. That is a step of gradient descent on wbar and F, at the rate
    eta0 / alpha^2 where that of the weights is eta0 N / alpha^2. Rounding cannot move
    F F^T out of the cone of positive matrices, where descent turns into ascent; in
    float32, M leaves it once the train loss is so small that C has eigenvalues below
    the rounding of M (some 10^5 steps).
    """

    def init(key: Array, x: Array) -> dict[str, Array]:
        dim = x.shape[-1]
        if width == 0:
            return {"wbar": jnp.zeros(dim), "factor": jnp.eye(dim)}
        return factored(*summary_statistics(jax.random.normal(key, (width, dim))))

    def apply(params: dict[str, Array], x: Array) -> Array:
        linear = jnp.matmul(x, params["wbar"], precision="highest")
        spread = jnp.matmul(x, params["factor"], precision="highest")
        return linear + 0.5 * epsilon * (linear**2 + jnp.sum(spread**2, axis=-1))

    return Model(init, apply)


def exact_flow(
    *,
    width: Natural = 0,
    epsilon: NonNegative = 0.25,
    rtol: Positive = 1e-3,
    atol: Positive = 1e-4,
) -> Model:
    """`exact_dynamics` as the gradient flow that its gradient descent discretises.

    Parameters, predictions, records and the unit of time (a step of descent) are the
    same, so that both have the same step axis. The flow has no largest stable learning
    rate, and the number of gradients depends on the tolerances, not on `steps`
    (`flow.flow`).

    Args:
      rtol, atol: tolerances of one integration step: the error of a parameter entry may
        be atol + rtol |entry|, in the root mean square over the entries.
    """

    def dynamics(velocity: Velocity) -> Dynamics:
        from grok_jax.flow import flow  # diffrax takes a second to import

        return flow(velocity, rtol=rtol, atol=atol)

    model = exact_dynamics(width=width, epsilon=epsilon)
    return model._replace(dynamics=dynamics, adaptive=True)
