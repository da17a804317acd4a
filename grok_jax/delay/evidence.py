"""What each theory may look at in a run: its parameters and its train examples.

`evidence` is an observable; nothing in it reads a test example. The statistics are
chosen so that they compare over tasks: they are shares, angles or ratios.
"""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from grok_jax import alignment, losses, spectra, transfer, tree
from grok_jax.observables import Record, View
from grok_jax.settings import STATIC, Bounds, Count, Natural, lookup
from grok_jax.types import Params

StaticShare = Annotated[float, Bounds(low=0, high=1), STATIC]
EVIDENCE = (
    "weight_norm",
    *("kernel_alignment", "kernel_distance", "laziness", "kernel_left_out"),
    "linear_share",
    *("embedding_rank", "embedding_alignment", "embedding_overlap"),
    "embedding_fourier",
    *("curvature", "gradient_norm"),
)
"""The names of the statistics."""
RIDGE = 1e-3
"""Added to kernels that are inverted, in units of their mean eigenvalue."""
POWER_STEPS = 8
"""Power iterations for the largest curvature of the loss."""


class Examples(NamedTuple):
    """Train examples that the statistics are taken on."""

    x: Array  # [n, ...]
    y: Array  # [n, C], centred over those that are seen, 0 for the others
    seen: Array  # bool [n]; others stand in where there are fewer than n
    weak: Array | None
    """[n, e], what a weak network's first layer makes of x, if the task has it"""


def evidence(
    view: View,
    *,
    leaf: str = "layer_0.w",
    points: Count = 96,
    tokens: Natural = 0,
    top: Count = 2,
    above: StaticShare = 0.0,
) -> Record:
    """The statistics of three theories and of a rival from outside, each a number.

    Omnigrok (norm):
      weight_norm: |theta|.
    Lazy to rich (kernel K with its output scale, on the first `points` train examples,
    their targets y centred):
      kernel_alignment: the centred CKA of K and y.
      kernel_distance: from the kernel at step 0, 1 - cosine.
      laziness: |theta_0| over the distance that the parameters would move to fit y in
        the lazy limit, sqrt(y^T K^-1 y) (eqs. 8 and 9): large where the network can
        stay lazy.
      kernel_left_out: the share of the variance of y that regression with K explains,
        each example left out in turn.
      linear_share: 1 - |f - f_lin|^2 / |f - f_0|^2, how much of what the network has
        learned its linearisation at step 0 makes with the same parameters.
    GrokTransfer (embedding E x, with E the parameter `leaf`):
      embedding_rank: the participation ratio of the squared singular values of E, over
        their number.
      embedding_alignment: the centred CKA of (E x)^T (E x) and y.
      embedding_overlap: the same with what a weak network's first layer makes of x, the
        task's extras["weak"]; NaN if it has none.
      embedding_fourier: the share of E's power in its `top` strongest frequencies over
        the tokens, if there are any.
    The loss (after Notsawo et al. 2023):
      curvature: the largest eigenvalue of the train loss's Hessian in size, by power
        iteration from the gradient.
      gradient_norm: of the train loss.

    Args:
      leaf: the parameter that embeds the inputs, [inputs, d]; one that GrokTransfer
        has made is A B.
      tokens: how many of its first rows are those of numbers; 0 if none are.
      above: NaN while the train accuracy is lower, but at step 0, to save time.
    """

    def look() -> Record:
        return _look(view, leaf, points, tokens, top)

    if not above:
        return look()
    x, y, weight = view.data.train
    right = view.loss.accuracy(view.apply(view.params, x), y)
    moved = optax.tree.norm(optax.tree.sub(view.params, view.anchor))
    wanted = (moved == 0) | (losses.weighted_mean(right, weight) >= above)
    shapes = jax.eval_shape(look).items()
    blank = {name: jnp.full(one.shape, jnp.nan, one.dtype) for name, one in shapes}
    return jax.lax.cond(wanted, look, lambda: blank)


def _look(view: View, leaf: str, points: int, tokens: int, top: int) -> Record:
    table = lookup(tree.flat_names(transfer.merge(view.params)), leaf, "parameter")
    chosen = _examples(view, points)
    record = {
        "weight_norm": optax.tree.norm(view.params),
        **_kernel(view, chosen),
        **_embedding(table, chosen),
        **_curvature(view),
    }
    if tokens:
        fourier = spectra.fourier_concentration(table[:tokens], top)
        record["embedding_fourier"] = fourier
    return record


def _examples(view: View, points: int) -> Examples:
    """The first `points` train examples of nonzero weight."""
    rows = jnp.argsort(view.data.train.weight <= 0, stable=True)[:points]
    x, y, weight = jax.tree.map(lambda leaf: leaf[rows], view.data.train)
    if jnp.issubdtype(y.dtype, jnp.integer):
        outputs = jax.eval_shape(view.apply, view.params, x).shape[-1]
        y = jax.nn.one_hot(y, outputs)
    y, seen = y.reshape(len(y), -1).astype(float), weight > 0
    kept = seen[:, None]
    mean = jnp.sum(jnp.where(kept, y, 0), 0, keepdims=True) / jnp.sum(seen)
    weak = view.data.extras.get("weak")
    weak = None if weak is None else weak[rows]
    return Examples(x, jnp.where(kept, y - mean, 0), seen, weak)


def _kernel(view: View, chosen: Examples) -> Record:
    x, y, seen, _ = chosen
    both = seen[:, None] & seen[None, :]
    scale = view.model["output_scale"] ** 2
    now, then = (
        jnp.where(both, scale * view.kernel(params, x, x), 0)
        for params in (view.params, view.anchor)
    )
    unit = jnp.trace(now) / jnp.sum(seen)
    # those that are not seen stand alone, with targets of zero
    ridged = now / unit + jnp.diag(jnp.where(seen, RIDGE, 1.0))
    inverse = jnp.linalg.inv(ridged) / unit
    weights = inverse @ y
    needed = jnp.sqrt(jnp.maximum(jnp.sum(y * weights), 0))
    error = jnp.sum((weights / jnp.diag(inverse)[:, None]) ** 2)
    moved = optax.tree.sub(view.params, view.anchor)
    start, slope = jax.jvp(lambda p: view.apply(p, x), (view.anchor,), (moved,))
    learned = view.apply(view.params, x) - start
    kept = seen.reshape(-1, *(1,) * (learned.ndim - 1))
    total, beyond = (
        jnp.sum(jnp.where(kept, part, 0) ** 2) for part in (learned, learned - slope)
    )
    return {
        "kernel_alignment": alignment.cka(now, y, centered=True, seen=seen),
        "kernel_distance": alignment.kernel_distance(now, then),
        "laziness": optax.tree.norm(view.anchor) / needed,
        "kernel_left_out": 1 - error / jnp.sum(y**2),
        "linear_share": 1 - beyond / jnp.where(total > 0, total, 1),
    }


def _embedding(table: Array, chosen: Examples) -> Record:
    x, y, seen, weak = chosen
    tokens = jnp.issubdtype(x.dtype, jnp.integer)
    inside = table[x].reshape(len(x), -1) if tokens else x @ table
    gram = inside @ inside.T
    power = jnp.linalg.svd(table, compute_uv=False) ** 2
    overlap = jnp.full((), jnp.nan)
    if weak is not None:
        overlap = alignment.cka(gram, weak, centered=True, seen=seen)
    return {
        "embedding_rank": jnp.sum(power) ** 2 / jnp.sum(power**2) / len(power),
        "embedding_alignment": alignment.cka(gram, y, centered=True, seen=seen),
        "embedding_overlap": overlap,
    }


def _curvature(view: View) -> Record:
    x, y, weight = view.data.train

    def mean_loss(params: Params) -> Array:
        values = view.loss.value(view.apply(params, x), y)
        return losses.weighted_mean(values, weight)

    gradient = jax.grad(mean_loss)
    slope = gradient(view.params)
    size = optax.tree.norm(slope)

    def product(v: Params) -> Params:
        return jax.jvp(gradient, (view.params,), (v,))[1]

    def turn(_: int, v: Params) -> Params:
        w = product(v)
        length = optax.tree.norm(w)
        return tree.scale(w, 1 / jnp.where(length > 0, length, 1))

    start = tree.scale(slope, 1 / jnp.where(size > 0, size, 1))
    v = jax.lax.fori_loop(0, POWER_STEPS, turn, start)
    curvature = jnp.asarray(optax.tree.vdot(v, product(v)))
    return {"curvature": curvature, "gradient_norm": size}
