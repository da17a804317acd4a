"""Types that are shared by all layers of the package, without logic."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

Params = Any
"""A tree of arrays."""

Scalar = Array | float
"""A number, traced or not."""

Device = Any
"""A `jax.Device`, which type checkers do not accept as a class."""

Apply = Callable[[Params, Array], Array]
"""A network: (params, x [n, ...]) -> f [n, C] or [n]."""


class Split(NamedTuple):
    """Weighted examples. A weight of zero leaves an example out, so that a train
    fraction can be traced: `train` and `test` then share one table."""

    x: Array  # [n, ...]
    y: Array  # [n, C] targets, or [n] integer labels
    weight: Array  # [n], >= 0


class Dataset(NamedTuple):
    """The train and test examples of one run."""

    train: Split
    test: Split
    extras: dict[str, Array]  # known to the task, not to the network


class Task(NamedTuple):
    """A pure `make(keys, **settings) -> Dataset`. `load(**settings)` reads files once
    on the host, and `make` gets its arrays as `files`. `sizes(**settings)` gives sizes
    that shapes do not show: the number of tokens (`vocabulary`) and of classes or
    outputs (`outputs`), each left out if there is none."""

    make: Callable[..., Dataset]
    load: Callable[..., dict[str, Any]] | None = None
    sizes: Callable[..., dict[str, int]] | None = None

    def __call__(self, *args: Any, **settings: Any) -> Dataset:
        return self.make(*args, **settings)


class Dynamics(NamedTuple):
    """How parameters evolve, in place of a gradient and an optimiser."""

    init: Callable[[Params], Any]
    """params at step 0 -> the state carried beside the parameters"""
    advance: Callable[[Params, Any, Scalar, Scalar], tuple[Params, Any]]
    """(params, state, step, count) -> (params, state) `count` steps after `step`"""


class Model(NamedTuple):
    """A network as two pure functions, and optional features of the model."""

    init: Callable[[Array, Array], Params]  # (key, x [n, ...]) -> params
    apply: Apply
    width: int = 1  # N of a mean-field network, for the learning-rate rule eta0 N
    kernel: Callable[[Params, Array, Array], Array] | None = None
    """(params, x1, x2) -> NTK [n1, n2], if the gradient of `apply` is not that of the
    network (because the parameters are a network's statistics, not its weights)."""
    dynamics: Callable[..., Dynamics] | None = None
    """(x, y, learning_rate=, output_scale=) -> Dynamics on all examples, for a model
    with its own dynamics."""
    adaptive: bool = False  # dynamics that choose step sizes by accuracy
    prepare: Callable[[Params, Dataset], Params] | None = None
    """(params, data) -> initial parameters that depend on the data"""


class Stop(NamedTuple):
    """Early stopping: a run ends once `rule(record)` [] has been >= 0 from some step s
    up to step s (1 + `patience`); records where it is NaN are skipped."""

    rule: Callable[[dict[str, Array]], Array]
    patience: Scalar = 0.0
