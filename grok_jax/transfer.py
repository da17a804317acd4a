"""Transfers embeddings between parameter trees (Xu et al. 2025, GrokTransfer).

    weak  = train_until(run, data, ...)            a small, partly trained network
    table = weak.params["embed"]                   E_W [V, d_W], its embedding
    embed = low_rank_embedding(key, table, d_T)    E_T = A B, A = E_W and B random
    graft(target, {"embed": embed})                the rest keeps its initial values

All functions are pure, so that a whole GrokTransfer run, weak network included, is one
function of its seed and settings, and a grid of runs is one batched program.
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
    """E_T = A B with A = `table` [V, d_W], a weak network's embedding, and B
    [d_W, width] drawn from U(-k, k), k = 1 / sqrt(d_W), as in PyTorch's nn.Linear.

    Both are trained (Xu et al. 2025, Sec. 2.2). `tree.product` gives the embedding
    [V, width]; with `models.wrappers.factored` any network accepts the factors.
    """
    rank = table.shape[1]
    bound = rank**-0.5
    b = jax.random.uniform(key, (rank, width), table.dtype, -bound, bound)
    return Factors(table, b)


def merge(params: Params) -> Params:
    """`params` with every low-rank embedding A B multiplied out to one table."""
    return tree.over_factors(tree.product, params)


def graft(params: Params, scions: Mapping[str, Any]) -> Params:
    """`params` with the leaves named in `scions` ("embed", "layer_0.w") replaced.

    A scion is an array, or factors whose product has the leaf's shape.

    Raises: ValueError naming every leaf that `params` lacks, or the first whose shape
    differs.
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
    grafted = [scions.get(name, leaves[name]) for name in names]
    return jax.tree.unflatten(structure, grafted)


class MergingState(NamedTuple):
    """State of `merging`."""

    inner: Any  # state for the factors and all other parameters
    tables: Any  # state for the merged tables
    count: Array  # int32 [], the number of steps so far


def merging(tx: optax.GradientTransformation, at: int) -> optax.GradientTransformation:
    """Wraps `tx` to train the factors A, B of every embedding for `at` steps, and their
    product as one table from then on (Xu et al. 2025, Fig. 15b).

    The factors carry room for the table (`with_room`): it is zero and fixed until the
    merge, A and B are afterwards. The merge does not change the network's function,
    only which parameters are free. The table is a new parameter: `tx` starts afresh
    with it, both moments and step count.
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

        # At the merge the tables are A B, which `rest` becomes only by this step.
        now = tree.over_factors(
            lambda leaf: (
                leaf._replace(rest=leaf.rest + jnp.where(merge_now, leaf.a @ leaf.b, 0))
                if _has_room(leaf)
                else leaf
            ),
            params,
        )
        moves, tables = tx.update(_tables(updates), state.tables, _tables(now))
        rest_moves = iter(jax.tree.leaves(moves))

        def collapse(update: Any, leaf: Any) -> Any:
            if not _has_room(leaf):
                return update
            whole = leaf.a @ leaf.b
            return Factors(
                jnp.where(merge_now, -leaf.a, update.a),
                jnp.where(merge_now, -leaf.b, update.b),
                jnp.where(merged, next(rest_moves), 0) + jnp.where(merge_now, whole, 0),
            )

        tables = optax.tree.where(merged, tables, state.tables)
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
    """The tables (`rest`) of all factors with room for one, in tree order."""
    leaves = jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, Factors))
    return [leaf.rest for leaf in leaves if _has_room(leaf)]


def with_room(params: Params) -> Params:
    """`params` with a zero table added to all factors, as `merging` requires."""

    def widen(leaf: Any) -> Any:
        if not isinstance(leaf, Factors):
            return leaf
        return leaf._replace(rest=jnp.zeros((len(leaf.a), leaf.b.shape[1])))

    return tree.over_factors(widen, params)
