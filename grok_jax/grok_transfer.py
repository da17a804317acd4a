"""GrokTransfer as a run's first act: train a weak network, take a leaf, graft it.

    weak = train_until(its run, data)       the best of some candidates
    leaf = weak.params[how.leaf]            E_W, what it has learned
    target[how.into] = leaf @ B, or leaf    the rest of the target stays fresh

Xu et al. 2025, Sec. 2.2. The pure functions of trees are those of `transfer`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax import rng, transfer, tree
from grok_jax.settings import (
    Count,
    Natural,
    Positive,
    SettingError,
    TracedSteps,
    lookup,
)
from grok_jax.train import Run, Start, Trained, train_until
from grok_jax.types import Dataset, Params, Scalar


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What of a weak network the target begins with.

    Args:
      source: a trained weak network, or one at random (`random`), for comparison.
      leaf: the weak network's parameter, by its name in `tree.flat_names`.
      into: the target's parameter that it enters.
      form: `product` makes that A B with A the leaf and B random; `copy` replaces it.
      merge_at: the step at which A B becomes one table; 0 for never.
      steps: of the weak network, at most; `accuracy` on the test set ends it earlier
        (above 1: never), looked at every `every` steps.
      candidates: so many weak networks; the one of the lowest train loss is taken.
    """

    source: Literal["weak", "random"] = "weak"
    leaf: str = "embed"
    into: str = "embed"
    form: Literal["product", "copy"] = "product"
    merge_at: Natural = 0
    steps: TracedSteps = 10_000
    accuracy: Positive = 2.0
    every: Count = 10
    candidates: Count = 1


def check(how: Transfer, steps: int, norm: str) -> None:
    """Raises SettingError where a merge does not go with the rest of a run."""
    if how.merge_at and how.form == "copy":
        raise SettingError("transfer.merge_at merges factors; form copy has none.")
    if how.merge_at >= steps > 0:
        raise SettingError(
            f"transfer.merge_at is {how.merge_at}; it must be below train.steps "
            f"({steps}), or nothing merges."
        )
    if how.merge_at and norm == "fixed":
        raise SettingError("transfer.merge_at does not go with optimizer.norm fixed.")


def transferred(
    how: Transfer,
    weak_run: Callable[[Array], Run],
    key: Array,
    params: Params,
    data: Dataset,
    *,
    init_scale: Scalar = 1.0,
) -> Start:
    """The target's `params` with what a weak network brings into them, and notes on it.

    Args:
      weak_run: key of the initial parameters -> the weak network's run.
      init_scale: of B, as of the target's other parameters.

    Raises: SettingError where the leaf or its place is not there, or does not fit.
    """
    trained = _weak_network(how, weak_run, key, data)
    target = lookup(tree.flat_names(params), how.into, "parameter of the target")
    table = lookup(
        tree.flat_names(trained.params), how.leaf, "parameter of the weak network"
    )
    if how.form == "product":
        table = transfer.low_rank_embedding(
            rng.named_key(key, "b"), table, target.shape[1]
        )
        table = table._replace(b=init_scale * table.b)
    try:
        params = transfer.graft(params, {how.into: table})
    except ValueError as error:
        raise SettingError(f"transfer: {error}") from error
    notes = {f"weak_{name}": value for name, value in trained.record.items()}
    notes["weak_steps_taken"] = trained.steps.astype(notes["weak_test_loss"].dtype)
    return Start(transfer.with_room(params) if how.merge_at else params, notes)


def _weak_network(
    how: Transfer, weak_run: Callable[[Array], Run], key: Array, data: Dataset
) -> Trained:
    """The trained weak network: of `how.candidates`, which differ in their initial
    parameters alone, the one of the lowest train loss.

    The test set has no say in the choice. A network as small as these hardly memorises,
    so that its train loss tells whether it has learned the rule.
    """
    trains = how.source == "weak"

    def train(key: Array) -> Trained:
        return train_until(
            weak_run(key),
            data,
            steps=how.steps if trains else 0,
            accuracy=how.accuracy,
            every=how.every,
        )

    candidates = how.candidates if trains else 1
    if candidates == 1:
        return train(key)
    return _lowest_loss(jax.vmap(train)(jax.random.split(key, candidates)))


def _lowest_loss(trained: Trained) -> Trained:
    """Of several networks [candidate, ...] that of the lowest train loss, never one
    that diverged; its steps are those of all of them."""
    loss = trained.record["train_loss"]
    best = jnp.argmin(jnp.where(jnp.isfinite(loss), loss, jnp.inf))
    chosen = jax.tree.map(lambda leaf: leaf[best], trained)
    return chosen._replace(steps=trained.steps.sum())
