"""Observables recorded during training: pure functions of a View -> named arrays.

Losses and accuracies are always recorded (`train.py`); observables are added to them,
each as often as its `every` says.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from grok_jax import alignment, losses, spectra, tree
from grok_jax.models.cluster_net import project
from grok_jax.settings import Count, Natural, Positive, Seed, SettingError, lookup
from grok_jax.theory import committee, xor
from grok_jax.types import Apply, Dataset, Params, Split


class View(NamedTuple):
    """One run at one step."""

    apply: Apply  # the trained network, with wrappers and output scale
    params: Params
    anchor: Params  # the parameters at step 0
    data: Dataset
    kernel: Callable[..., Array]
    """(params, x1, x2, kind="trace") -> NTK without output scale, [n1, n2] (mean over
    outputs), or as in `ntk.empirical_ntk` for another kind."""
    lift: Callable[[Callable[[Params, Any], Any]], Callable[[Params, Any], Any]]
    """Linearises and centres a function of the parameters and another argument, if the
    network is; without the output scale."""
    loss: losses.Loss
    model: dict[str, Any]  # the model's settings


Record = dict[str, Array]


def norms(view: View) -> Record:
    """weight_norm = |theta| over all parameters, weight_norm_NAME of each leaf, and
    relative_displacement = |theta - theta_0| / |theta_0|, which is small in the lazy
    regime and of order 1 in the rich regime."""
    leaves = tree.flat_names(view.params)
    moved = optax.tree.norm(optax.tree.sub(view.params, view.anchor))
    return {
        "weight_norm": optax.tree.norm(view.params),
        "relative_displacement": moved / optax.tree.norm(view.anchor),
        **{
            f"weight_norm_{name}": optax.tree.norm(leaf)
            for name, leaf in leaves.items()
        },
    }


def kernel_alignment(view: View, *, points: Natural = 0) -> Record:
    """CKA of the NTK with the targets, y^T K y / (|K|_F |y|^2), raw and centred.

    On the train and the test examples of nonzero weight (the first `points` of each;
    0: all). It is in [0, 1] and rises as features are learned (Kumar et al. 2024, Fig.
    1).
    """
    record = {}
    for name in ("train", "test"):
        x, y, weight = _examples(getattr(view.data, name), points)
        kernel, seen = view.kernel(view.params, x, x), weight > 0
        record[f"cka_{name}"] = alignment.cka(kernel, y, seen=seen)
        record[f"cka_centered_{name}"] = alignment.cka(
            kernel, y, centered=True, seen=seen
        )
    return record


def difficulty(view: View) -> Record:
    """difficulty = (y - f)^T K^-1 (y - f) of the train examples for the network's NTK
    K, output scale included; at step 0 of a centred network it is y^T K0^-1 y (Kumar et
    al. 2024, eq. 8), the squared distance that the parameters move in the lazy limit
    (eq. 9). For tasks with one output; NaN where K is not positive."""
    x, y, weight = view.data.train
    if y.ndim > 1:
        raise SettingError("observe.difficulty needs a task with one output.")
    seen = weight > 0
    kernel = view.model["output_scale"] ** 2 * view.kernel(view.params, x, x)
    kernel = jnp.where(seen[:, None] & seen[None, :], kernel, jnp.eye(len(y)))
    residual = jnp.where(seen, y - view.apply(view.params, x), 0)
    return {"difficulty": alignment.difficulty(kernel, residual)}


def kernel_snapshots(
    view: View, *, points: Count = 64, kind: Literal["trace", "pseudo"] = "trace"
) -> Record:
    """The NTK on the first `points` test examples, [m, m], and their targets;
    `kernel_history` computes distances, velocities and spectra of it on the host. NaN
    where some of the m are examples of weight zero, as there are too few others.

    Args:
      kind: the mean over outputs, or the kernel of their sum (`ntk.empirical_ntk`).
    """
    x, y, weight = _examples(view.data.test, points)
    kernel = view.kernel(view.params, x, x, kind)
    kernel = jnp.where(jnp.all(weight > 0), kernel, jnp.nan)
    return {"ntk": kernel, "ntk_targets": y.astype(kernel.dtype)}


def _examples(split: Split, points: int) -> Split:
    """The first `points` examples of nonzero weight, and after them, if these are too
    few, others of weight zero; 0: all examples."""
    if not points:
        return split
    order = jnp.argsort(split.weight <= 0, stable=True)[:points]
    return jax.tree.map(lambda leaf: leaf[order], split)


def embedding_fourier(
    view: View, *, leaf: str = "embed", tokens: Natural = 0, top: Count = 5
) -> Record:
    """fourier_concentration: the share of the embedding's power in its `top` strongest
    frequencies over the tokens; it rises to 1 as they settle on circles (Nanda et al.
    2023). The embedding is the first `tokens` rows (0: all) of the parameter named
    `leaf` [vocabulary, d], as a row such as that of '=' lies on no circle.
    """
    table = lookup(tree.flat_names(view.params), leaf, "parameter")
    table = table[:tokens] if tokens else table
    return {"fourier_concentration": spectra.fourier_concentration(table, top)}


def parameter_snapshots(view: View, *, leaf: str = "embed") -> Record:
    """parameter: the parameter named `leaf` itself, for plots of it
    (`spectra.principal_components`). The results store it in full at every record, so
    give it few records."""
    return {"parameter": lookup(tree.flat_names(view.params), leaf, "parameter")}


def softmax_collapse(view: View) -> Record:
    """softmax_collapse: the share of train examples whose correct class has a
    probability that rounds to 1 in the working precision: `losses.naive_cross_entropy`
    and its derivative in their correct logit are exactly 0 (Prieto et al. 2025, arXiv
    2501.04697). With loss.error cross_entropy it is the share that the naive form would
    lose. For logits [n, C], labels [n] or one-hot [n, C]."""
    if view.loss.value not in (losses.cross_entropy, losses.naive_cross_entropy):
        raise SettingError(
            "observe.softmax_collapse needs loss.error cross_entropy or "
            "naive_cross_entropy."
        )
    x, y, weight = view.data.train
    zero = losses.naive_cross_entropy(view.apply(view.params, x), y) == 0
    return {"softmax_collapse": losses.weighted_mean(zero.astype(weight.dtype), weight)}


def population_risk(view: View) -> Record:
    """The exact test loss of a quadratic committee, its three terms (Kumar et al. 2024,
    eq. 6), and its linear mode |wbar|^2."""
    squares = view.model.get("degree", 0) == 0 and "epsilon" in view.model
    if not squares or "square" not in view.data.extras:
        raise SettingError(
            "observe.population_risk needs task.name polynomial with one direction and "
            "degree 0, and a committee model with degree 0."
        )
    statistics = view.lift(lambda params, _: committee.statistics_of(params))
    wbar, m = statistics(view.params, None)
    risk = committee.population_risk(
        wbar,
        m,
        view.data.extras["square"],
        view.model["output_scale"],
        view.model["epsilon"],
    )
    return {
        "population_risk": risk.total,
        "variance_error": risk.variance_error,
        "misalignment_error": risk.misalignment_error,
        "linear_power": risk.linear_power,
        "linear_mode": jnp.sum(wbar**2),
    }


def xor_norms(view: View) -> Record:
    """norm_ratio = r_W, the size of a `cluster_net`'s noise weights over its signal
    weights (`theory.xor.norm_ratio`; Xu et al. 2025, Fig. 5), and for up to 8 neurons
    directions [m], each one's cosine with the nearest of (+-1, +-1) (Fig. 4c)."""
    _need_cluster_net(view, "xor_norms")
    record = {"norm_ratio": xor.norm_ratio(view.params, view.model["dimension"])}
    signal = view.params["signal"]
    if signal.shape[1] <= 8:
        record["directions"] = xor.direction_similarity(signal)
    return record


def xor_embedding(view: View) -> Record:
    """embedding [n, m]: what the neurons of a `cluster_net` make of the test examples,
    U^T x; and their cluster [n], 2 (x_1 > 0) + (x_2 > 0) (Xu et al. 2025, Figs. 5a and
    11). The results store it at every record, so give it few."""
    _need_cluster_net(view, "xor_embedding")
    x, noise = view.data.test.x, view.model["noise"]
    positive = (x[:, :2] > 0).astype(view.data.test.y.dtype)
    cluster = 2 * positive[:, 0] + positive[:, 1]
    return {"embedding": project(view.params, x, noise), "cluster": cluster}


def xor_target(
    view: View,
    *,
    target_width: Count = 2048,
    v_init: Positive = 0.4,
    step_size: Positive = 2.0,
    steps: Count = 60,
    draw: Seed = 0,
) -> Record:
    """target_train_accuracy and target_test_accuracy [steps + 1] of a network that
    inherits the `cluster_net`'s neurons, at its start and after each of its own steps
    on the same train set (`theory.xor.transferred_accuracy`; Xu et al. 2025, Figs. 9,
    10 and 11, right).

    Args:
      target_width: m, the number of neurons of that network.
      draw: the seed of its weights.
    """
    _need_cluster_net(view, "xor_target")
    found = xor.transferred_accuracy(
        jax.random.key(draw),
        view.params,
        view.data,
        noise=view.model["noise"],
        width=target_width,
        v_init=v_init,
        learning_rate=step_size,
        steps=steps,
    )
    return {f"target_{name}": values for name, values in found.items()}


def xor_one_step(
    view: View,
    *,
    target_width: Count = 2048,
    v_init: Positive = 0.4,
    step_size: Positive = 2.0,
    draws: Count = 12,
    draw: Seed = 0,
) -> Record:
    """Accuracies [draws] after one step of networks that inherit the `cluster_net`'s
    neurons (`theory.xor.transferred_accuracy`; Theorem 3.2 of Xu et al. 2025):
    one_step_train_accuracy and one_step_test_accuracy at weights `v_init` and learning
    rate `step_size`, and the same with the prefix

      largest_   at the theorem's largest rate, sqrt(m) v_init
      small_     at weights log(n)^(-3/2) and their largest rate
      unit_      so, on neurons whose signal is scaled to 1

    each on the weak network's own train set and, with "fresh_" before all, on the fresh
    examples of the task, if it has any.

    Args:
      target_width: m, the number of neurons of a target network.
      draw: the seed of their weights.
    """
    _need_cluster_net(view, "xor_one_step")
    sets, extras = {"": view.data}, view.data.extras
    if "fresh_x" in extras:
        x, y = extras["fresh_x"], extras["fresh_y"]
        sets["fresh_"] = view.data._replace(train=Split(x, y, jnp.ones_like(y)))
    keys, root = jax.random.split(jax.random.key(draw), draws), target_width**0.5
    own, unit = view.params, xor.unit_signal(view.params)
    record = {}
    for fresh, data in sets.items():
        small = float(np.log(len(data.train.y)) ** -1.5)
        for rate, u, v, step in (
            ("", own, v_init, step_size),
            ("largest_", own, v_init, root * v_init),
            ("small_", own, small, root * small),
            ("unit_", unit, small, root * small),
        ):

            def after(key: Array, data=data, u=u, v=v, step=step) -> Record:
                return xor.transferred_accuracy(
                    key,
                    u,
                    data,
                    noise=view.model["noise"],
                    width=target_width,
                    v_init=v,
                    learning_rate=step,
                )

            found = jax.lax.map(after, keys)  # one after another: a batch is large
            for name, values in found.items():
                record[f"{fresh}{rate}one_step_{name}"] = values[:, -1]
    return record


def _need_cluster_net(view: View, name: str) -> None:
    if "noise" not in view.model or "signal" not in view.params:
        raise SettingError(f"observe.{name} needs model.name cluster_net.")
