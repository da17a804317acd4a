"""Computes a kernel from its factors, one block of rows and columns at a time."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from grok_jax.ntk.factors import Factorization, leaf_kernels, sample_factors, swap
from grok_jax.ntk.inputs import Kind
from grok_jax.ntk.jaxprs import Footprint

_HALVINGS = 3  # of a symmetric block: 9/16 of the products remain
_SMALLEST_HALF = 100  # rows; smaller products are not fast
_FEWEST = 4
"""Rows of a block for which factors are still kept rather than formed again for larger
blocks; measured on a ResNet, which takes half the time with 8 rows and kept factors."""
_CACHE = 2**24
"""Bytes that a CPU works on at a time while it forms factors; measured on LeNet, a
convolutional net and a ViT, which take half again to twice as long with 64 samples."""


class Problem(NamedTuple):
    """Everything that a kernel is computed from."""

    factorization: Factorization
    places: tuple[int, ...]  # of the floating leaves among all leaves
    leaves: list[Array]  # the floating ones
    cotangents: Array  # [R, C], the combinations of outputs to differentiate
    x1: Array
    x2: Array | None
    kind: Kind
    outputs: int  # C
    sample: Footprint  # to form the factors of one sample
    factor_bytes: int  # to keep them


class Blocks(NamedTuple):
    """How a kernel is cut into blocks, and the memory it takes."""

    rows: int  # per block
    chunk: int  # samples whose factors are formed at a time
    keep: bool  # whether all factors are kept, or formed again for each block
    total: int  # predicted bytes


def choose_blocks(
    problem: Problem,
    block_size: int | None,
    memory_budget: int,
    by_layer: bool = False,
) -> Blocks:
    """Blocks of the given size, or the largest that fit in the budget; smaller ones if
    the factors can be kept then."""
    n1, n2 = len(problem.x1), len(problem.x1 if problem.x2 is None else problem.x2)
    item = problem.factorization.dtype.itemsize
    kernels = n1 * n2 * math.prod(entry_shape(problem)) * item
    kernels *= len(problem.leaves) if by_layer else 1
    samples = n1 + (0 if problem.x2 is None else n2)

    def count(rows: int) -> tuple[Blocks, int]:
        """The blocks, and their bytes without the kernel."""
        rows1, rows2 = min(rows, n1), min(rows, n2)
        chunk, extra = working_bytes(problem, rows1, rows2, memory_budget)
        # Those of a block, and a copy in the order in which they are multiplied.
        two = 2 * (rows1 + rows2) * problem.factor_bytes
        if rows >= max(n1, n2):
            halves = problem.x2 is None and n1 >= 2 * _SMALLEST_HALF
            copies = 2 if halves or problem.kind in ("full", "diagonal") else 1
            extra += copies * samples * problem.factor_bytes
            return Blocks(rows, chunk, True, extra + 2 * kernels), extra
        kept = extra + samples * problem.factor_bytes + two
        if kept <= memory_budget:
            return Blocks(rows, chunk, True, kept + 3 * kernels), kept
        return Blocks(rows, chunk, False, extra + two + 3 * kernels), extra + two

    rows = max(n1, n2) if block_size is None else min(block_size, max(n1, n2))
    blocks, extra = count(rows)
    while block_size is None and extra > memory_budget and rows > 1:
        rows = -(-rows // 2)
        blocks, extra = count(rows)
    smaller = blocks
    while block_size is None and not smaller.keep and rows > _FEWEST:
        rows = -(-rows // 2)
        smaller, _ = count(rows)
    return smaller if smaller.keep else blocks


def entry_shape(problem: Problem) -> tuple[int, ...]:
    """The shape of the kernel of one pair of samples: [C, C], [C] or []."""
    axes = {"full": 2, "diagonal": 1}.get(problem.kind, 0)
    return (len(problem.cotangents),) * axes


def working_bytes(
    problem: Problem, rows: int, columns: int, memory_budget: int
) -> tuple[int, int]:
    """Of a block: samples whose factors are formed at a time, and the bytes that it
    takes beside its factors and its result."""
    factorization = problem.factorization
    layers = [v for v in factorization.layers if v.rule == "gram"]
    item, entries = factorization.dtype.itemsize, math.prod(entry_shape(problem))
    # XLA forms the products of several layers before it adds the first two.
    pairs = sum(v.positions**2 for v in layers) * (1 + entries)
    turned = sum(v.positions**2 for v in layers if v.turned)
    pairs += turned * len(problem.cotangents) // 2
    others = len(factorization.layers) - len(layers) + len(factorization.jacobians)
    pairs += (2 + others) * entries
    # Measured: twice what the footprint shows, for layouts and convolutions.
    forming = max(2 * problem.sample.sample, 1)
    cache = _CACHE if jax.default_backend() == "cpu" else memory_budget // 2
    chunk = min(max(cache // forming, 1), max(rows, columns))
    extra = problem.sample.shared + rows * columns * pairs * item + chunk * forming
    return chunk, extra


def form(problem: Problem, chunk: int, x: Array) -> Any:
    """The factors of the rows of x, `chunk` rows at a time."""
    one = functools.partial(sample_factors, problem.factorization, problem.leaves)
    return in_chunks(jax.vmap(lambda x: one(x, problem.cotangents)), x, chunk)


def pair(problem: Problem, factors1: Any, factors2: Any) -> dict[int, Array]:
    """The kernel of each leaf between the rows of two sets of factors."""
    kernels = leaf_kernels(problem.factorization, factors1, factors2, problem.kind)
    if problem.kind in ("trace", "pseudo"):
        return {leaf: k / problem.outputs for leaf, k in kernels.items()}
    return kernels


def total(kernels: dict[int, Array]) -> Array:
    """The sum over leaves."""
    return functools.reduce(jnp.add, kernels.values())


def solve(problem: Problem, blocks: Blocks, leaves: int) -> list[Array]:
    """The kernel or, if `leaves` is the number of leaves of params, one for each."""
    factorization, x1, x2 = problem.factorization, problem.x1, problem.x2
    n1, n2 = len(x1), len(x1 if x2 is None else x2)
    formed = functools.partial(form, problem, blocks.chunk)

    def paired(factors1: Any, factors2: Any) -> dict[int, Array]:
        found = pair(problem, factors1, factors2)
        return found if leaves else {0: total(found)}

    if not factorization.layers and not factorization.jacobians:
        found = {}
    elif blocks.rows >= max(n1, n2):
        first = formed(x1)
        found = _by_halves(first, paired) if x2 is None else paired(first, formed(x2))
    else:
        found = _by_blocks(x1, x2, blocks, formed, paired)

    zeros = jnp.zeros((n1, n2, *entry_shape(problem)), factorization.dtype)
    if not leaves:
        return [found.get(0, zeros)]
    kernels = [zeros] * leaves
    for leaf, kernel in found.items():
        kernels[problem.places[leaf]] = kernel
    return kernels


def _by_blocks(
    x1: Array,
    x2: Array | None,
    blocks: Blocks,
    form: Callable[[Array], Any],
    pair: Callable[[Any, Any], dict[int, Array]],
) -> dict[int, Array]:
    """Kernels from one pair of blocks at a time; the last block is padded."""
    rows = cut(x1, blocks.rows)
    load = (lambda factors: factors) if blocks.keep else form
    stored = jax.lax.map(form, rows) if blocks.keep else rows
    if x2 is None:
        count = len(rows)
        first, second = np.triu_indices(count)

        def one(place: tuple[Array, Array]) -> dict[int, Array]:
            i, j = place
            left = load(jax.tree.map(lambda a: a[i], stored))
            right = load(jax.tree.map(lambda a: a[j], stored))
            return jax.tree.map(
                lambda k: jnp.where(i == j, symmetrise(k), k), pair(left, right)
            )

        upper = jax.lax.map(one, (jnp.asarray(first), jnp.asarray(second)))
        place = np.zeros((count, count), int)
        place[first, second] = place[second, first] = np.arange(len(first))

        def mirror(k: Array) -> Array:
            below = np.tril(np.ones((count, count), bool), -1)
            below = below.reshape(count, count, *(1,) * (k.ndim - 1))
            return jnp.where(below, jax.vmap(jax.vmap(swap))(k[place]), k[place])

        grid = jax.tree.map(mirror, upper)
    else:
        columns = cut(x2, blocks.rows)
        others = jax.lax.map(form, columns) if blocks.keep else columns

        def strip(block: Any) -> dict[int, Array]:
            left = load(block)
            return jax.lax.map(lambda other: pair(left, load(other)), others)

        grid = jax.lax.map(strip, stored)

    def join(k: Array) -> Array:
        tall = k.shape[0] * k.shape[2], k.shape[1] * k.shape[3]
        whole = jnp.swapaxes(k, 1, 2).reshape(tall + k.shape[4:])
        return whole[: len(x1), : len(x1 if x2 is None else x2)]

    return jax.tree.map(join, grid)


def in_chunks(function: Callable[[Array], Any], x: Array, rows: int) -> Any:
    """function(x), a tree of arrays with a row for each of x, so many rows at a time
    in the memory of one chunk; the last chunk is padded, so that one is compiled."""
    if len(x) <= rows:
        return function(x)
    found = jax.lax.map(function, cut(x, rows))
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[: len(x)], found)


def cut(x: Array, rows: int) -> Array:
    """x as blocks [count, rows or fewer, ...] of equal size, its last row repeated."""
    count = -(-len(x) // rows)
    rows = -(-len(x) // count)
    place = np.minimum(np.arange(count * rows), len(x) - 1)
    return x[place].reshape(count, rows, *x.shape[1:])


def _by_halves(
    factors: Any, pair: Callable[[Any, Any], dict[int, Array]]
) -> dict[int, Array]:
    """Computes the symmetric pair(factors, factors) with about half of its products."""
    n = len(jax.tree.leaves(factors)[0])
    tiles = []  # (first row, first column, kernels), on and above the diagonal

    def cut(start: int, stop: int, halvings: int) -> None:
        middle = (start + stop) // 2
        if halvings == 0 or middle - start < _SMALLEST_HALF:
            part = jax.tree.map(lambda a: a[start:stop], factors)
            tiles.append((start, start, jax.tree.map(symmetrise, pair(part, part))))
            return
        top = jax.tree.map(lambda a: a[start:middle], factors)
        bottom = jax.tree.map(lambda a: a[middle:stop], factors)
        tiles.append((start, middle, pair(top, bottom)))
        cut(start, middle, halvings - 1)
        cut(middle, stop, halvings - 1)

    def join(*parts: Array) -> Array:
        k = jnp.zeros((n, n, *parts[0].shape[2:]), parts[0].dtype)
        for (row, column, _), part in zip(tiles, parts, strict=True):
            tall, wide = part.shape[:2]
            k = k.at[row : row + tall, column : column + wide].set(part)
            if row != column:
                k = k.at[column : column + wide, row : row + tall].set(swap(part))
        return k

    cut(0, n, _HALVINGS)
    return jax.tree.map(join, *(kernels for _, _, kernels in tiles))


def symmetrise(k: Array) -> Array:
    """The mean of a kernel of one set of samples and of that with them swapped."""
    return (k + swap(k)) / 2
