"""What is recorded along training: pure functions of a View -> named scalars.

Losses and accuracies are always recorded (`train.py`); these come on top, each as
often as its `every` says.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax import alignment, losses, spectra, tree
from grok_jax.settings import Count, Natural, Positive, Seed, SettingError, lookup
from grok_jax.theory import committee, xor
from grok_jax.types import Apply, Dataset, Params, Split


class View(NamedTuple):
    """One moment of one run."""

    apply: Apply  # the network as it trains, wrappers and output scale included
    params: Params
    anchor: Params  # the parameters at step 0
    data: Dataset
    kernel: Callable[..., Array]
    """(params, x1, x2, kind="trace") -> NTK without output scale, [n1, n2] (mean over
    outputs) or as `ntk.empirical_ntk` has it for another kind."""
    lift: Callable[[Callable[[Params, Any], Any]], Callable[[Params, Any], Any]]
    """Puts the network's wrappers (linearised, centred) around any function of its
    parameters and of something else; the output scale is left out."""
    loss: losses.Loss
    model: dict[str, Any]  # the model's settings


Record = dict[str, Array]


def norms(view: View) -> Record:
    """weight_norm = |theta| over all parameters, weight_norm_NAME of each leaf, and
    relative_displacement = |theta - theta_0| / |theta_0|: small in the lazy regime, of
    order 1 in the rich."""
    leaves = tree.flat_names(view.params)
    moved = tree.norm(tree.subtract(view.params, view.anchor))
    return {
        "weight_norm": tree.norm(view.params),
        "relative_displacement": moved / tree.norm(view.anchor),
        **{f"weight_norm_{name}": tree.norm(leaf) for name, leaf in leaves.items()},
    }


def kernel_alignment(view: View, *, points: Natural = 0) -> Record:
    """CKA of the NTK with the targets, y^T K y / (|K|_F |y|^2), raw and centred.

    On the test and the train examples (the first `points` of each; 0 = all). In
    [0, 1]; it rises as features are learned (Kumar et al. 2024, Fig. 1).
    """
    record = {}
    for name in ("train", "test"):
        x, y = _examples(getattr(view.data, name), points)
        kernel = view.kernel(view.params, x, x)
        record[f"cka_{name}"] = alignment.cka(kernel, y)
        record[f"cka_centered_{name}"] = alignment.cka(kernel, y, centered=True)
    return record


def output_alignment(view: View, *, points: Natural = 64) -> Record:
    """CKA of each output's own NTK with its own target, [C], on the test examples
    (kernel specialisation, Shan and Bordelon 2021)."""
    x, y = _examples(view.data.test, points)
    kernel = view.kernel(view.params, x, x, "diagonal")
    y = y[:, None] if y.ndim == 1 else y
    return {"output_alignment": alignment.output_alignment(kernel, y)}


def kernel_snapshots(
    view: View, *, points: Count = 64, kind: Literal["trace", "pseudo"] = "trace"
) -> Record:
    """The NTK itself on the first `points` test examples, [m, m], and their targets:
    what `kernel_history` turns into distances, velocities and spectra on the host.

    Args:
      kind: the mean over outputs, or the kernel of their sum (`ntk.empirical_ntk`).
    """
    x, y = _examples(view.data.test, points)
    kernel = view.kernel(view.params, x, x, kind)
    return {"ntk": kernel, "ntk_targets": y.astype(kernel.dtype)}


def _examples(split: Split, points: int) -> tuple[Array, Array]:
    """(x, y) of the first `points` examples that have a weight; 0 is all of them."""
    if not points:
        return split.x, split.y
    order = jnp.argsort(-split.weight, stable=True)[:points]
    return split.x[order], split.y[order]


def embedding_fourier(
    view: View, *, leaf: str = "embed", tokens: Natural = 0, top: Count = 5
) -> Record:
    """fourier_concentration: share of the power of the embedding in its `top` strongest
    frequencies over the tokens; it rises to 1 as they settle on circles (Nanda et al.
    2023). Of the parameter named `leaf` [vocabulary, d], the first `tokens` rows (0 =
    all): a row such as that of '=' lies on no circle.
    """
    table = lookup(tree.flat_names(view.params), leaf, "parameter")
    table = table[:tokens] if tokens else table
    return {"fourier_concentration": spectra.fourier_concentration(table, top)}


def parameter_snapshots(view: View, *, leaf: str = "embed") -> Record:
    """parameter: the parameter named `leaf` itself, for pictures of it
    (`spectra.principal_components`). It takes its size at every record of the results,
    so give it few records."""
    return {"parameter": lookup(tree.flat_names(view.params), leaf, "parameter")}


def softmax_collapse(view: View) -> Record:
    """softmax_collapse: share of the train examples whose right class has a probability
    that rounds to 1 in the working precision: there `losses.naive_cross_entropy` is
    exactly 0 and moves their right logit no more (Prieto et al. 2025, arXiv
    2501.04697). With loss.error cross_entropy it is the share that the naive form would
    have lost. For logits [n, C], labels [n] or one-hot [n, C]."""
    if view.loss.value not in (losses.cross_entropy, losses.naive_cross_entropy):
        raise SettingError(
            "observe.softmax_collapse needs loss.error cross_entropy or "
            "naive_cross_entropy."
        )
    x, y, weight = view.data.train
    zero = losses.naive_cross_entropy(view.apply(view.params, x), y) == 0
    return {"softmax_collapse": losses.weighted_mean(zero.astype(weight.dtype), weight)}


def population_risk(view: View) -> Record:
    """The exact test loss of a quadratic committee in its three terms (Kumar et al.
    2024, eq. 6), and its linear mode |wbar|^2."""
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
    """norm_ratio = r_W, the size of a weight of a `cluster_net` on noise beside one on
    signal (`theory.xor.norm_ratio`; Xu et al. 2025, Fig. 5), and for 8 neurons or fewer
    directions [m], the cosine of each with the nearest of (+-1, +-1) (Fig. 4c)."""
    _need_cluster_net(view, "xor_norms")
    record = {"norm_ratio": xor.norm_ratio(view.params)}
    signal = view.params["signal"]
    if signal.shape[1] <= 8:
        record["directions"] = xor.direction_similarity(signal)
    return record


def xor_one_step(
    view: View,
    *,
    target_width: Count = 2048,
    v_init: Positive = 0.4,
    step_size: Positive = 2.0,
    draw: Seed = 0,
) -> Record:
    """What a network that takes over the neurons of this `cluster_net` knows after one
    step: one_step_train_accuracy and one_step_test_accuracy at the rate `step_size`,
    and with "largest_" before them at the largest of Theorem 3.2, sqrt(m) v_init
    (`theory.xor.one_step_accuracy`; Xu et al. 2025, Fig. 9).

    Args:
      target_width: m, the neurons of that network.
      draw: the seed of its weights.
    """
    _need_cluster_net(view, "xor_one_step")
    record = {}
    largest = target_width**0.5 * v_init
    for prefix, rate in (("", step_size), ("largest_", largest)):
        found = xor.one_step_accuracy(
            jax.random.key(draw),
            view.params,
            view.data,
            noise=view.model["noise"],
            width=target_width,
            v_init=v_init,
            learning_rate=rate,
        )
        for name in ("train_accuracy", "test_accuracy"):
            record[f"{prefix}one_step_{name}"] = found[name]
    return record


def _need_cluster_net(view: View, name: str) -> None:
    if "noise" not in view.model or "signal" not in view.params:
        raise SettingError(f"observe.{name} needs model.name cluster_net.")
