"""XOR clusters and small ReLU networks (Xu et al. 2025, GrokTransfer, Sec. 3).

x = (x_1, x_2, noise) with x_1, x_2 = +-1 and y = x_1 x_2: four clusters, where opposite
clusters share a label. Parameters are those of `models.cluster_net`: hidden weights W
in two parts, "signal" [2, m] and "noise" [p - 2, m].
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from grok_jax.losses import exponential, weighted_mean
from grok_jax.models.cluster_net import project
from grok_jax.rng import named_key
from grok_jax.types import Dataset, Params, Scalar


def norm_ratio(params: Params, dimension: int = 0) -> Array:
    """r_W = (|W_3:p|_F / sqrt(p - 2)) / (|W_1:2|_F / sqrt(2)), the ratio of the RMS
    weight on noise to the RMS weight on signal.

    It is about 1 at the start; once the network has generalised it is proportional to
    eps / sqrt(n), independent of the dimension p (Fig. 5).

    Args:
      dimension: p of compact examples, whose network has "rest" (`cluster_net`).

    >>> params = {"signal": jnp.full((2, 3), 4.0), "noise": jnp.ones((5, 3))}
    >>> round(norm_ratio(params).item(), 6)
    0.25
    """
    signal, noise = params["signal"], params["noise"]
    rest = jnp.sum(params["rest"] ** 2) if "rest" in params else 0.0
    count = noise.size if "rest" not in params else (dimension - 2) * noise.shape[1]
    return jnp.sqrt((jnp.sum(noise**2) + rest) / count / jnp.mean(signal**2))


def unit_signal(params: Params) -> Params:
    """The neurons of a `cluster_net` scaled so that a weight on the signal is 1 on
    average: each signal part has norm sqrt(2), as u_j = (mu, delta_j) in Sec. 3.3.

    >>> params = {"signal": jnp.full((2, 1), -4.0), "noise": jnp.full((3, 1), 2.0)}
    >>> print(unit_signal(params)["noise"].ravel())
    [0.5 0.5 0.5]
    """
    scale = jnp.sqrt(2.0) / jnp.linalg.norm(params["signal"], axis=0)
    return {name: params[name] * scale[None] for name in ("signal", "noise")}


def direction_similarity(signal: ArrayLike) -> Array:
    """Cosine similarity between each neuron's signal part [2, m] and the nearest of the
    directions (+-1, +-1), [m] in [1 / sqrt(2), 1]; NaN for a zero part (Fig. 4c).

    >>> cosines = direction_similarity(jnp.array([[3.0, 0.0], [-3.0, 2.0]]))
    >>> [round(cosine.item(), 4) for cosine in cosines]
    [1.0, 0.7071]
    """
    w = jnp.asarray(signal)
    norm = jnp.linalg.norm(w, axis=0)
    return jnp.sum(jnp.abs(w), axis=0) / (jnp.sqrt(2.0) * norm)


def directions_found(signal: ArrayLike) -> Array:
    """The number of directions (+-1, +-1), out of four, that are nearest to some
    neuron's signal part, for parts [..., 2, m]: int [...]. NaN neurons do not count.

    >>> directions_found(jnp.array([[3.0, 2.0, -1.0], [1.0, 2.0, 1.0]])).item()
    2
    """
    first, second = jnp.moveaxis(jnp.asarray(signal), -2, 0)
    quadrant = jnp.where(first > 0, 2, 0) + jnp.where(second > 0, 1, 0)
    quadrant = jnp.where(jnp.isfinite(first + second), quadrant, -1)
    found = jnp.stack([(quadrant == which).any(-1) for which in range(4)])
    return found.sum(0)


def best_accuracy(width: int) -> float:
    """The largest population accuracy of f(x) = sum_j a_j relu(w_j . x) with `width`
    neurons, min(width, 4) / 4, where f = 0 counts as wrong (Lemma 3.1: width 3).

    It is an upper bound for any symmetric noise: the examples come in groups of four,
    x, -x, x', -x', with equal probability and labels +1, +1, -1, -1. An example is
    correct only if a neuron whose a_j has the sign of its label is active, w_j . x > 0.
    A neuron has one sign and is active on at most one of two opposites, so it serves at
    most one of the four. Weights on the signal alone reach the bound: (1, 1) and
    (-1, -1) with a_j > 0, (1, -1) and (-1, 1) with a_j < 0, or any subset of these.

    >>> [best_accuracy(width) for width in (1, 2, 3, 4, 2048)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    if width < 0:
        raise ValueError(f"A network cannot have {width} neurons.")
    return min(width, 4) / 4


def transferred_net(
    key: Array, u: Params, width: int, v_init: Scalar
) -> tuple[Array, Array]:
    """(a [m], v [m, r]) of f(x) = sum_j a_j relu(v_j . z), z = U^T x: a_j is +-1 /
    sqrt(m) and v_j in {-v_init, v_init}^r, uniformly at random (Theorem 3.2).

    Args:
      u: the parameters of the weak network, whose r neurons are the columns of U.
    """
    directions = u["signal"].shape[1]
    a = jax.random.rademacher(named_key(key, "a"), (width,), float) / width**0.5
    v = jax.random.rademacher(named_key(key, "v"), (width, directions), float)
    return a, v_init * v


def outputs(a: Array, v: Array, z: Array) -> Array:
    """f [n] = sum_j a_j relu(v_j . z) for z [n, r]."""
    return jax.nn.relu(z @ v.T) @ a


def one_step(a: Array, v: Array, z: Array, y: Array, learning_rate: Scalar) -> Array:
    """v [m, r] after one step of gradient descent on the mean of exp(-y f), with `a`
    and U fixed; z [n, r], y [n] of -1 and 1 (Theorem 3.2)."""

    def loss(v: Array) -> Array:
        return jnp.mean(exponential().value(outputs(a, v, z), y))

    return v - learning_rate * jax.grad(loss)(v)


def transferred_accuracy(
    key: Array,
    u: Params,
    data: Dataset,
    *,
    noise: Scalar,
    width: int,
    v_init: Scalar,
    learning_rate: Scalar,
    steps: int = 1,
) -> dict[str, Array]:
    """train_accuracy and test_accuracy [steps + 1] of a `transferred_net` at its start
    and after each step of gradient descent (Fig. 9: v_init 0.4, learning rate 2).

    Theorem 3.2 is about the first step. It takes train examples that U was not fitted
    to (Lemma A.2), neurons at three of the four directions with signal 1
    (`unit_signal`) and noise of at most C eps sqrt(p / n), v_init up to
    C log(n)^(-3/2) and a learning rate of sqrt(m) v_init / C to sqrt(m) v_init.

    Args:
      u: the parameters of the weak network.
      data: from `xor_clusters`.
      noise: eps, the same as that of the weak network.
    """
    a, v = transferred_net(key, u, width, v_init)
    splits = {"train": data.train, "test": data.test}
    z = {name: project(u, split.x, noise) for name, split in splits.items()}

    def accuracies(v: Array) -> dict[str, Array]:
        return {
            f"{name}_accuracy": weighted_mean(
                exponential().accuracy(outputs(a, v, z[name]), split.y), split.weight
            )
            for name, split in splits.items()
        }

    def step(v: Array, _: None) -> tuple[Array, dict[str, Array]]:
        return one_step(a, v, z["train"], data.train.y, learning_rate), accuracies(v)

    v, before = jax.lax.scan(step, v, length=steps)
    return jax.tree.map(lambda b, e: jnp.append(b, e), before, accuracies(v))
