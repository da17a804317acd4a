"""GrokTransfer at the start of a run: trains a weak network and grafts a leaf of it.

    weak = train_until(its run, data)       the best of several candidates
    leaf = weak.params[how.leaf]            E_W, its embedding
    target[how.into] = leaf @ B, or leaf    the rest keeps its initial values

Xu et al. 2025, Sec. 2.2. The functions on parameter trees are in `transfer`.
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
    """Which parameter of a weak network initialises the target, and how.

    Args:
      source: a trained weak network, or for comparison an untrained one (`random`).
      leaf: the weak network's parameter, by its name in `tree.flat_names`.
      into: the target's parameter that is replaced.
      form: replace it by A B with A the leaf and B random (`product`), by their product
        as one table at the norm of what it replaces (`table`), or by the leaf (`copy`).
      merge_at: the step at which A B becomes one table; 0: never.
      steps: the most steps of the weak network; it stops early at test accuracy
        `accuracy` (above 1: never), checked every `every` steps.
      candidates: the number of weak networks; the one of lowest train loss is used.
    """

    source: Literal["weak", "random"] = "weak"
    leaf: str = "embed"
    into: str = "embed"
    form: Literal["product", "table", "copy"] = "product"
    merge_at: Natural = 0
    steps: TracedSteps = 10_000
    accuracy: Positive = 2.0
    every: Count = 10
    candidates: Count = 1


def check(how: Transfer, steps: int, norm: str, clip_norm: float = 0.0) -> None:
    """Raises SettingError if a merge is incompatible with the rest of a run."""
    if how.merge_at and clip_norm:
        raise SettingError(
            "transfer.merge_at does not go with optimizer.clip_norm, which would clip "
            "the merged table apart from the other parameters."
        )
    if how.merge_at and how.form != "product":
        raise SettingError(
            f"transfer.merge_at merges factors; form {how.form} has none."
        )
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
    """The target's `params` with a weak network's leaf grafted in, and notes on it.

    Args:
      weak_run: key of the initial parameters -> the weak network's run.
      init_scale: scale of B, the same as of the target's other parameters.

    Raises: SettingError if either parameter does not exist or their shapes differ.
    """
    trained = _weak_network(how, weak_run, key, data)
    target = lookup(tree.flat_names(params), how.into, "parameter of the target")
    table = lookup(
        tree.flat_names(trained.params), how.leaf, "parameter of the weak network"
    )
    if how.form != "copy":
        table = transfer.low_rank_embedding(
            rng.named_key(key, "b"), table, target.shape[1]
        )
        table = table._replace(b=init_scale * table.b)
    if how.form == "table":
        whole = tree.product(table)
        table = whole * jnp.linalg.norm(target) / jnp.linalg.norm(whole)
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
    """The trained weak network: the one of lowest train loss among `how.candidates`,
    which differ only in their initial parameters.

    The test set is not used for this choice. Networks this small hardly memorise, so
    that the train loss shows whether they have learned the rule.
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
    """The network of lowest finite train loss among networks [candidate, ...]; its
    `steps` are summed over all of them."""
    loss = trained.record["train_loss"]
    best = jnp.argmin(jnp.where(jnp.isfinite(loss), loss, jnp.inf))
    chosen = jax.tree.map(lambda leaf: leaf[best], trained)
    return chosen._replace(steps=trained.steps.sum())
