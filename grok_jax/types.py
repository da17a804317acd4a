"""The few shapes that every floor of the package shares. No logic lives here."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

Params = Any
"""A tree of arrays."""

Scalar = Array | float
"""A number, traced or not."""

Device = Any
"""A `jax.Device` (which is no class that a type checker would take)."""

Apply = Callable[[Params, Array], Array]
"""A network: (params, x [n, ...]) -> f [n, C] or [n]."""


class Split(NamedTuple):
    """Examples with weights. A weight of zero leaves an example out, so that a train
    fraction can be a traced number: `train` and `test` then share one table."""

    x: Array  # [n, ...]
    y: Array  # [n, C] targets, or [n] integer labels
    weight: Array  # [n], >= 0


class Dataset(NamedTuple):
    """What one run learns from and is tested on."""

    train: Split
    test: Split
    extras: dict[str, Array]  # what the task knows and the network does not


class Task(NamedTuple):
    """`make(keys, **settings) -> Dataset`, pure; `load(**settings)` reads files once
    on the host and its arrays reach `make` as `files`; `sizes(**settings)` says what
    shapes do not: the number of tokens (`vocabulary`) and of classes or outputs
    (`outputs`), left out where there is none."""

    make: Callable[..., Dataset]
    load: Callable[..., dict[str, Any]] | None = None
    sizes: Callable[..., dict[str, int]] | None = None

    def __call__(self, *args: Any, **settings: Any) -> Dataset:
        return self.make(*args, **settings)


class Dynamics(NamedTuple):
    """How parameters move, in the place of a gradient and an optimiser."""

    init: Callable[[Params], Any]
    """params at step 0 -> what is carried beside the parameters"""
    advance: Callable[[Params, Any, Scalar, Scalar], tuple[Params, Any]]
    """(params, carried, step, count) -> both, `count` steps after `step`"""


class Model(NamedTuple):
    """What learns: two pure functions, and what is special about the model."""

    init: Callable[[Array, Array], Params]  # (key, x [n, ...]) -> params
    apply: Apply
    width: int = 1  # N of a mean-field network, for the learning-rate rule eta0 N
    kernel: Callable[[Params, Array, Array], Array] | None = None
    """(params, x1, x2) -> NTK [n1, n2], where the gradient of `apply` is not the
    gradient of the network (statistics of a network instead of its weights)."""
    dynamics: Callable[..., Dynamics] | None = None
    """(x, y, learning_rate=, output_scale=) -> Dynamics on all examples, for a model
    that carries its own."""
    adaptive: bool = False  # dynamics that take what accuracy asks for, not every step
    prepare: Callable[[Params, Dataset], Params] | None = None
    """What the initial parameters become once the data are known."""


class Stop(NamedTuple):
    """When a run has nothing left to show: `rule(record)` [] is 0 or more, and
    `patience` times as many steps again after it first was; NaN says nothing."""

    rule: Callable[[dict[str, Array]], Array]
    patience: Scalar = 0.0
