"""Networks that stay lazy: linearised, their dynamics, and where these end."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from grok_jax.ntk.inputs import floating, replace
from grok_jax.precision import host_if_concrete, on_device
from grok_jax.types import Apply, Params


def linearize(apply_fn: Apply, params: Params) -> Apply:
    """First-order Taylor expansion of apply_fn in its parameters around `params`.

    f_lin(new, x) = f(params, x) + df/dparams (new - params): exact at `params`, and
    its kernel at any `new` is that of apply_fn at `params`. Train it with any loss and
    optimiser for a lazy reference where no closed form exists (Adam, cross-entropy);
    for gradient descent on squared error there is `lazy_dynamics`.

    Args:
      apply_fn: maps (params, x) to outputs of any shape.
      params: any tree; leaves that are not floating stay at their value here.

    Returns:
      f_lin(new_params, x), with new_params a tree like params.

    >>> f = linearize(lambda w, x: w**2 * x, jnp.float32(3.0))
    >>> print(f(jnp.float32(3.0), 1.0), f(jnp.float32(4.0), 1.0))
    9.0 15.0
    """
    base, structure = jax.tree.flatten(params)
    base = [jnp.asarray(leaf) for leaf in base]
    places = floating(base)

    def linearized(new_params: Params, x: Array) -> Array:
        def apply(*leaves: Array) -> Array:
            return apply_fn(structure.unflatten(replace(base, places, leaves)), x)

        new = structure.flatten_up_to(new_params)
        start = [base[i] for i in places]
        change = [jnp.asarray(new[i], base[i].dtype) - base[i] for i in places]
        value, slope = jax.jvp(apply, start, change)
        return jax.tree.map(jnp.add, value, slope)

    return linearized


def kernel_regression(
    k_train: ArrayLike,
    y_train: ArrayLike,
    k_test_train: ArrayLike,
    ridge: float | ArrayLike = 0.0,
) -> Array:
    """Predictions of kernel (ridge) regression, K_test,train (K + ridge I)^+ y.

    With ridge 0 and eigenvalues >= 0 it is where `lazy_dynamics` from f0 = 0 ends.
    Eigenvalues below P times the rounding unit of the largest count as zero.

    Given concrete arrays it works in float64 on the host, whatever JAX's default
    precision; under `jit` and `vmap` in the dtype of its inputs.

    Args:
      k_train: [P, P]; or a `full` kernel [P, P, C, C].
      y_train: [P] or [P, C]; with [P, P] every output has the same kernel.
      k_test_train: [M, P], or [M, P, C, C].
      ridge: added to the diagonal.

    Returns:
      [M] or [M, C], like y_train.

    Raises:
      ValueError: the shapes do not fit together.

    >>> k = np.array([[2.0, 1.0], [1.0, 2.0]])
    >>> print(kernel_regression(k, np.array([1.0, -1.0]), k[:1]))
    [1.]
    """
    xp, (k, y, k_test, ridge) = host_if_concrete(k_train, y_train, k_test_train, ridge)
    k, y_columns, k_test = _as_matrices(k, y, k_test)
    with jax.default_matmul_precision("highest"):
        values, vectors = xp.linalg.eigh((k + k.T) / 2)
        values = values + ridge
        size = xp.abs(values)
        zero = size <= len(k) * xp.finfo(k.dtype).eps * xp.max(size)
        inverse = xp.where(zero, 0.0, 1 / xp.where(zero, 1.0, values))
        out = k_test @ (vectors @ (inverse[:, None] * (vectors.T @ y_columns)))
    return on_device(out.reshape(-1, *y.shape[1:]))


def lazy_dynamics(
    k_train: ArrayLike,
    y_train: ArrayLike,
    k_eval_train: ArrayLike,
    learning_rate: float | ArrayLike,
    steps: Sequence[int] | ArrayLike,
    f0_train: ArrayLike | None = None,
    f0_eval: ArrayLike | None = None,
    ridge: float | ArrayLike = 0.0,
) -> tuple[Array, Array]:
    """Exact predictions of gradient descent on a linearised model, at any steps.

    Full-batch gradient descent without momentum on the mean over samples of the
    squared error summed over outputs, L = (1/P) sum_i |f(x_i) - y_i|^2, moves the
    residual r = f - y by r <- (I - (2 lr / P) K) r, so with c = 2 lr / P

      f_train(t) = y + (I - c K)^t (f0 - y)
      f_eval(t)  = f0_eval - K_eval [I - (I - c K)^t] K^-1 (f0 - y)

    evaluated eigenvalue by eigenvalue; zero eigenvalues and steps that oscillate or
    diverge (lr > P / lambda_max) included. Where the loss also averages over C
    outputs, pass lr / C. A [P, P] kernel acts on every output alike (`trace`, an
    approximation for C > 1); with `full` the outputs mix and the result is exact.

    A ridge adds (ridge / P) |theta - theta_0|^2 to L, the parameters' distance from
    their start. K then decays as K + ridge, and the end is that of
    `kernel_regression` with this ridge. Early stopping is one of the `steps`: the one
    where the loss on held-out rows of `k_eval_train` is least.

    Given concrete arrays it works in float64 on the host, whatever JAX's default
    precision; under `jit` and `vmap` in the dtype of its inputs.

    Args:
      k_train: [P, P]; or a `full` kernel [P, P, C, C].
      y_train: [P] or [P, C].
      k_eval_train: [M, P], or [M, P, C, C].
      learning_rate: of L above.
      steps: [S] integers >= 0.
      f0_train: predictions at step 0, like y_train; None: zero.
      f0_eval: [M] or [M, C]; None: zero.
      ridge: 0 or more.

    Returns:
      f_train [S, P] or [S, P, C], and f_eval [S, M] or [S, M, C].

    Raises:
      ValueError: the shapes do not fit together, or a step is no integer >= 0.

    >>> k, y = np.array([[1.0]]), np.array([1.0])
    >>> f_train, f_eval = lazy_dynamics(k, y, 2 * k, 0.25, [0, 1, 2, 1000])
    >>> print(f_train[:, 0], f_eval[:, 0])
    [0.   0.5  0.75 1.  ] [0.  1.  1.5 2. ]
    """
    _check_steps(steps)
    given = [k_train, y_train, k_eval_train, learning_rate, steps, ridge]
    starts = [f for f in (f0_train, f0_eval) if f is not None]
    xp, (k, y, k_eval, rate, t, ridge, *starts) = host_if_concrete(*given, *starts)
    k, target, k_eval = _as_matrices(k, y, k_eval)
    outputs = target.shape[1]

    def start(given: ArrayLike | None, rows: int, name: str) -> Any:
        if given is None:
            return xp.zeros((rows, outputs), k.dtype)
        value: Any = starts.pop(0)
        wanted = (rows * outputs // math.prod(y.shape[1:]), *y.shape[1:])
        if value.shape != wanted:
            raise ValueError(f"{name} must have shape {wanted}; got {value.shape}.")
        return value.reshape(rows, outputs)

    train = start(f0_train, len(k), "f0_train")
    evaluated = start(f0_eval, len(k_eval), "f0_eval")
    rate = 2 * rate / len(y)
    with jax.default_matmul_precision("highest"), np.errstate(all="ignore"):
        values, vectors = xp.linalg.eigh((k + k.T) / 2)
        left, moved = _decay(xp, rate * (values + ridge), t.astype(k.dtype))
        # What the ridge keeps of a mode: all of one without an eigenvalue.
        kept = ridge / xp.where(ridge == 0, 1.0, values + ridge)
        left = left + kept[None, :] * (1 - left)
        modes = vectors.T @ (train - target)

        def combine(basis: Any, weights: Any) -> Any:
            """basis [m, P] times (weights [S, P] modes [P, C]) -> [S, m, C]."""
            weighted = (weights.T[:, :, None] * modes[:, None, :]).reshape(len(k), -1)
            mixed = (basis @ weighted).reshape(len(basis), len(t), outputs)
            return xp.swapaxes(mixed, 0, 1)

        f_train = target[None] + combine(vectors, left)
        f_eval = evaluated[None] - rate * combine(k_eval @ vectors, moved)
    shape = (len(t), -1, *y.shape[1:])
    return on_device(f_train.reshape(shape)), on_device(f_eval.reshape(shape))


def _decay(xp: Any, z: Any, t: Any) -> tuple[Any, Any]:
    """(1 - z)^t and (1 - (1 - z)^t) / z, for z [P] and t [S], as [S, P]."""
    z, t = z[None, :], t[:, None]
    # log|1 - z| without cancellation on either side of z = 1
    slope = xp.log1p(xp.where(z < 1, -z, z - 2))
    exponent = xp.where(t == 0, 0.0, t * slope)
    sign = xp.where((z > 1) & (t % 2 == 1), -1.0, 1.0)
    left = sign * xp.exp(exponent)
    moved = xp.where(z < 1, -xp.expm1(exponent), 1 - left)
    return left, xp.where(z == 0, t, moved / xp.where(z == 0, 1.0, z))


def _check_steps(steps: Sequence[int] | ArrayLike) -> None:
    if isinstance(steps, Tracer):
        return
    values = np.asarray(jax.device_get(steps))
    if values.ndim != 1 or (values < 0).any() or (values != np.floor(values)).any():
        raise ValueError(f"steps must be a list of integers >= 0; got {steps}.")


def _as_matrices(k: Any, y: Any, k_eval: Any) -> tuple[Any, Any, Any]:
    """Kernels [P, P] and [M, P] and targets [P, C]; a `full` kernel as one output."""
    wanted = 2 * y.shape[:1]
    if k.ndim == 4 and y.ndim == 2:
        wanted += 2 * y.shape[1:]
    fits = k.shape == wanted and k_eval.shape[1:] == wanted[1:]
    if y.ndim not in (1, 2) or k_eval.ndim != k.ndim or not fits:
        raise ValueError(
            "Kernels [P, P] and [M, P] with targets [P] or [P, C], or [P, P, C, C] and "
            f"[M, P, C, C] with targets [P, C], are needed; got {k.shape}, "
            f"{k_eval.shape} and {y.shape}."
        )
    if k.ndim == 2:
        return k, y.reshape(len(y), -1), k_eval
    flat = [a.swapaxes(1, 2).reshape(-1, y.size) for a in (k, k_eval)]
    return flat[0], y.reshape(-1, 1), flat[1]
