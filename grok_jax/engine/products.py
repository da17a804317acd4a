"""The matrix products of a function, such as a training step, and their operation
count."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from grok_jax.engine.census import inner_jaxprs


class Product(NamedTuple):
    """A `dot_general` that a program executes `times` times."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    dimensions: Any  # as for `jax.lax.dot_general`
    times: int = 1

    @property
    def flops(self) -> int:
        """Floating-point operations: two for each pair of numbers multiplied."""
        (_, contracted), (_, batch) = self.dimensions
        bound = {*contracted, *batch}
        free = [size for axis, size in enumerate(self.right) if axis not in bound]
        return 2 * self.times * math.prod(self.left) * math.prod(free)

    def swapped(self) -> "Product":
        """The transposed product, which XLA computes where the transpose is needed."""
        contracted, batch = self.dimensions
        return Product(
            self.right, self.left, (contracted[::-1], batch[::-1]), self.times
        )


def products_of(function: Callable, *arguments: Any) -> list[Product]:
    """The products that `function` executes, from its traced program. A scan counts
    once per iteration, a loop of unknown length once, a conditional as its costliest
    branch, and of branches for different platforms only the present one.

    Arguments may be arrays or their shapes. Convolutions are not included.
    """
    traced = jax.make_jaxpr(function)(*arguments)
    return list(_products(traced.jaxpr, 1))


def flops(products: Sequence[Product]) -> int:
    """Floating-point operations of all products."""
    return sum(product.flops for product in products)


def _products(jaxpr: Any, times: int) -> Iterator[Product]:
    transposed = {  # products that are formed only to be transposed
        equation.invars[0]
        for equation in jaxpr.eqns
        if equation.primitive.name == "transpose"
        and equation.params["permutation"] == (1, 0)
    }
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            left, right = (tuple(v.aval.shape) for v in equation.invars)
            found = Product(left, right, equation.params["dimension_numbers"], times)
            yield found.swapped() if equation.outvars[0] in transposed else found
        elif equation.primitive.name == "cond":
            yield from max(
                (list(_products(branch, times)) for branch in _branches(equation)),
                key=flops,
            )
        else:
            length = equation.params.get("length", 1)
            for inner in inner_jaxprs(equation):
                yield from _products(inner, times * length)


def _branches(conditional: Any) -> list[Any]:
    """The branches that may be taken; of `jax.lax.platform_dependent`, only one."""
    branches = [branch.jaxpr for branch in conditional.params["branches"]]
    platforms = conditional.params.get("branches_platforms")
    if not platforms:
        return branches
    backend = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
    by_name = [
        b for b, on in zip(branches, platforms, strict=True) if on and backend in on
    ]
    return by_name or branches[-1:]
