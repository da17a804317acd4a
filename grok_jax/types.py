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


Velocity = Callable[[Params], Params]
"""params -> their change per step (or unit of time)."""


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
    dynamics: Callable[[Velocity], Dynamics] | None = None
    """(velocity by a step of full-batch gradient descent) -> Dynamics, for a model that
    moves in another way than by such steps, such as by the gradient flow"""
    adaptive: bool = False  # dynamics that choose step sizes by accuracy
    prepare: Callable[[Params, Dataset], Params] | None = None
    """(params, data) -> initial parameters that depend on the data"""


class Stop(NamedTuple):
    """Early stopping: a run ends once `rule(record)` [] has been >= 0 from some step s
    up to step s (1 + `patience`); records where it is NaN are skipped."""

    rule: Callable[[dict[str, Array]], Array]
    patience: Scalar = 0.0
