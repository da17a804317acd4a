"""Embeddings from one parameter tree into another (Xu et al. 2025, GrokTransfer).

    weak  = train_until(run, data, ...)            a small network, until it knows a bit
    table = weak.params["embed"]                   E_W [V, d_W], what it has learned
    embed = low_rank_embedding(key, table, d_T)    E_T = A B, A = E_W and B random
    graft(target, {"embed": embed})                the rest of the target stays fresh

All of it is pure, so that a whole GrokTransfer run, weak network included, is one
function of its seed and its settings, and a grid of them one batched program.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from grok_jax import tree
from grok_jax.settings import nearest
from grok_jax.tree import Factors
from grok_jax.types import Params


def low_rank_embedding(key: Array, table: Array, width: int) -> Factors:
    """E_T = A B with A = `table` [V, d_W], what a weak network has learned, and B
    [d_W, width] drawn from U(-k, k), k = 1 / sqrt(d_W), as PyTorch draws a linear map.

    Both train (Xu et al. 2025, Sec. 2.2). `tree.product` is the embedding [V, width];
    the wrapper `models.wrappers.factored` lets any network take it as one.
    """
    rank = table.shape[1]
    bound = rank**-0.5
    b = jax.random.uniform(key, (rank, width), table.dtype, -bound, bound)
    return Factors(table, b)


def merge(params: Params) -> Params:
    """`params` with every low-rank embedding A B as the one table that it is."""
    return tree.over_factors(tree.product, params)


def graft(params: Params, scions: Mapping[str, Any]) -> Params:
    """`params` with the leaves that `scions` names replaced ("embed", "layer_0.w").

    A scion is an array, or factors, whose product then counts.

    Raises: ValueError naming every leaf that `params` lacks and every shape that
    differs; nothing is grafted in silence.
    """
    leaves = tree.flat_names(params)
    unknown = [name for name in scions if name not in leaves]
    if unknown:
        raise ValueError(
            f"There is no parameter {', '.join(unknown)} to graft on; "
            f"{nearest(unknown[0], leaves)}."
        )
    for name, scion in scions.items():
        shape = jax.eval_shape(tree.product, scion).shape
        if shape != leaves[name].shape:
            raise ValueError(
                f"The graft for {name} has shape {shape}, not {leaves[name].shape}."
            )
    names = list(leaves)
    structure = jax.tree.structure(params)
    grown = [scions.get(name, leaves[name]) for name in names]
    return jax.tree.unflatten(structure, grown)


def transplant(source: Params, target: Params, leaves: tuple[str, ...] = ()) -> Params:
    """`target` with the parameters of `source`: those named in `leaves`, or all.

    Raises: ValueError with every name that is missing from `source` and, where all are
    taken, every one that it has beyond those of `target`.
    """
    have, wanted = tree.flat_names(source), tree.flat_names(target)
    names = leaves or tuple(wanted)
    missing = [name for name in names if name not in have]
    extra = [] if leaves else [name for name in have if name not in wanted]
    if missing or extra:
        parts = [("lacks", missing), ("has beyond the target's", extra)]
        said = [f"{verb} {', '.join(which)}" for verb, which in parts if which]
        raise ValueError(f"The source {' and '.join(said)}.")
    return graft(target, {name: have[name] for name in names})


class MergingState(NamedTuple):
    """State of the optimiser that merges A B."""

    inner: Any  # of the factors and all else
    tables: Any  # of the tables alone, from the merge on
    count: Array  # int32 [], the steps so far


def merging(tx: optax.GradientTransformation, at: int) -> optax.GradientTransformation:
    """`tx` that trains the factors A, B of every embedding for `at` steps and from then
    on their product as one table (Xu et al. 2025, Fig. 15b).

    The factors carry room for the table (`with_room`): until the merge it is zero and
    rests, afterwards A and B are. The function of the network is the same on both sides
    of the merge; only what is a free parameter of it changes. The table is a new
    parameter: `tx` begins anew with it, moments and count of steps alike.
    """

    def init(params: Params) -> MergingState:
        tables = tx.init(_tables(params))
        return MergingState(tx.init(params), tables, jnp.zeros((), jnp.int32))

    def update(updates: Params, state: Any, params: Params | None = None):
        if params is None:
            raise ValueError("merging needs the parameters in update.")
        merged, merge_now = state.count >= at, state.count == at

        def factors_move(leaf: Any) -> Any:
            if not _has_room(leaf):
                return leaf
            a, b = (jnp.where(merged, 0, factor) for factor in (leaf.a, leaf.b))
            return Factors(a, b, jnp.zeros_like(leaf.rest))

        moves, tables = tx.update(_tables(updates), state.tables, _tables(params))
        own = iter(jax.tree.leaves(moves))

        def collapse(update: Any, leaf: Any) -> Any:
            if not _has_room(leaf):
                return update
            whole = leaf.a @ leaf.b
            return Factors(
                jnp.where(merge_now, -leaf.a, update.a),
                jnp.where(merge_now, -leaf.b, update.b),
                jnp.where(merged, next(own), 0) + jnp.where(merge_now, whole, 0),
            )

        tables = tree.select(merged, tables, state.tables)
        updates, inner = tx.update(
            tree.over_factors(factors_move, updates), state.inner, params
        )
        updates = tree.over_factors(factors_move, updates)
        updates = tree.over_factors(collapse, updates, params)
        return updates, MergingState(inner, tables, state.count + 1)

    return optax.GradientTransformation(init, update)


def _has_room(leaf: Any) -> bool:
    return isinstance(leaf, Factors) and leaf.rest is not None


def _tables(params: Params) -> list[Array]:
    """The room for a table of every pair of factors, in tree order."""
    leaves = jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, Factors))
    return [leaf.rest for leaf in leaves if _has_room(leaf)]


def with_room(params: Params) -> Params:
    """`params` whose factors have room for the table that `merging` makes of them."""

    def widen(leaf: Any) -> Any:
        if not isinstance(leaf, Factors):
            return leaf
        return leaf._replace(rest=jnp.zeros((len(leaf.a), leaf.b.shape[1])))

    return tree.over_factors(widen, params)
