"""Says how each parameter enters a kernel, and what that costs."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from grok_jax.ntk.blocks import Problem
from grok_jax.ntk.empirical import make_problem
from grok_jax.ntk.inputs import Kind, check_kind
from grok_jax.ntk.layers import multiplications, sizes_of
from grok_jax.tree import flat_names
from grok_jax.types import Apply, Params


class Leaf(NamedTuple):
    """How one parameter leaf enters the kernel of n samples."""

    path: str
    shape: tuple[int, ...]
    use: str  # "product", "convolution", "look-up", "bias of ..." or ""
    positions: int  # how often one sample is multiplied by it; 0: not known
    rule: str  # "gram", "gradient", "explicit" or "none"
    operations: int  # multiplications, without the backward pass
    bytes: int  # of its factors, for all samples


class Explanation(tuple[Leaf, ...]):
    """One `Leaf` for each leaf of params; printed as a table.

    The rules: `gram` multiplies inner products of inputs and of signals for each pair
    of positions; `gradient` forms each sample's gradient as one product of inputs and
    signals; `explicit` leaves that to JAX (the leaf is used in a way that is not
    recognised, which is exact and may be slow if the leaf is large); `none` is a leaf
    that is not floating or not used.
    """

    def __str__(self) -> str:
        head = ("leaf", "shape", "use", "positions", "rule", "multiplications", "MiB")
        rows = [
            (
                leaf.path,
                "x".join(map(str, leaf.shape)) or "-",
                leaf.use or "-",
                str(leaf.positions or "-"),
                leaf.rule,
                f"{leaf.operations:.2e}",
                f"{leaf.bytes / 2**20:.2f}",
            )
            for leaf in self
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))
            for row in (head, *rows)
        ]
        return "\n".join(line.rstrip() for line in lines)


def explain(
    apply_fn: Apply,
    params: Params,
    x1: Any,
    x2: Any = None,
    *,
    kind: Kind = "trace",
) -> Explanation:
    """How `empirical_ntk` would compute this kernel, leaf by leaf; computes nothing.

    Arguments and errors as in `empirical_ntk`; params, x1 and x2 may also be
    `jax.ShapeDtypeStruct`s.

    >>> params = {"v": jnp.ones((3, 1)), "w": jnp.ones((2, 3))}
    >>> f = lambda p, x: jnp.tanh(x @ p["w"]) @ p["v"]
    >>> print(explain(f, params, jnp.ones((10, 2))))
    leaf  shape  use      positions  rule      multiplications  MiB
    v     3x1    product  1          gradient  3.30e+02         0.00
    w     2x3    product  1          gram      5.00e+02         0.00
    """
    check_kind(kind)
    found: list[Leaf] = []

    def look(params: Params, x1: Any, x2: Any) -> None:
        problem = make_problem(apply_fn, params, x1, x2, kind)
        about = dict(_uses(problem))
        places = {place: i for i, place in enumerate(problem.places)}
        for place, (path, leaf) in enumerate(flat_names(params).items()):
            use = about.get(places.get(place, -1), ("", 0, "none", 0, 0))
            found.append(Leaf(path, jnp.shape(leaf), *use))

    jax.eval_shape(look, params, x1, x2)
    return Explanation(found)


def _uses(problem: Problem) -> Iterator[tuple[int, tuple[str, int, str, int, int]]]:
    """(floating leaf, the fields of a `Leaf` after its shape)."""
    n1 = len(problem.x1)
    n2 = n1 if problem.x2 is None else len(problem.x2)
    samples = n1 + (0 if problem.x2 is None else n2)
    rows, item = len(problem.cotangents), problem.factorization.dtype.itemsize
    for layer in problem.factorization.layers:
        gram, gradient = multiplications(layer, rows, problem.kind, n1 * n2, samples)
        sizes = [sizes_of(products) for products in layer.uses]
        batch, _, inputs, outputs = sizes[0]
        kept = sum(s.batch * s.positions * (s.inputs + rows * s.outputs) for s in sizes)
        if layer.rule == "gradient":
            kept = rows * batch * inputs * outputs
        names = [p.name for products in layer.uses for p in products]
        used, positions = " + ".join(dict.fromkeys(names)), layer.positions
        chosen = gram if layer.rule == "gram" else gradient
        yield (
            layer.weight,
            (used, positions, layer.rule, chosen, samples * kept * item),
        )
        if layer.bias is not None:
            kept = 0 if layer.rule == "gram" else rows * batch * outputs
            use = (f"bias of {used}", positions, layer.rule, 0, samples * kept * item)
            yield layer.bias, use
    combinations = rows * rows if problem.kind == "full" else rows
    for i in problem.factorization.jacobians:
        size = problem.leaves[i].size
        kept = samples * rows * size * item
        yield i, ("", 0, "explicit", n1 * n2 * combinations * size, kept)
