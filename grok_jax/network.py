"""The network of a run: a model and its wrappers.

    model -> factored -> init scaled     the model's functions
          -> wraps -> linearised -> centred -> output scaled     the trained network

Every wrapper maps functions to functions, so that any number of them compose.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax import ntk, optim, rng
from grok_jax.models import wrappers
from grok_jax.models.modules import as_model
from grok_jax.parts import Part
from grok_jax.settings import SettingError, schema
from grok_jax.types import Apply, Params, Split, Task

SIZES = ("inputs", "vocabulary", "outputs")
"""Model settings that are sizes of the data; 0: taken from the data."""


class Wrapping(Protocol):
    """Wrapper settings that apply to any model."""

    output_scale: Any
    init_scale: Any
    centered: bool
    linearized: bool


class Network:
    """A wrapped model, its kernel and its learning rate.

    Args:
      wraps: wrappers (apply, anchor) -> apply, the first innermost.
      learning_rate: None if the optimiser has none.
      lazy: whether the rate follows `optim.lazy_learning_rate`.
      factored: whether a parameter may be a product of factors (`tree.Factors`).

    Raises: SettingError for a size that does not fit the data, and for `lazy` without a
    learning rate.
    """

    def __init__(
        self,
        model: Part,
        wrapping: Wrapping,
        task: Part,
        *,
        wraps: Sequence[Callable[[Apply, Params], Apply]] = (),
        learning_rate: Any = None,
        lazy: bool = False,
        factored: bool = False,
    ):
        sized = with_sizes(model, task)
        self.settings = sized.settings
        made = as_model(sized)
        if factored:
            made = made._replace(apply=wrappers.factored(made.apply))
        self.model = wrappers.scale_init(made, wrapping.init_scale)
        self.wraps, self.output_scale = wraps, wrapping.output_scale
        self.linearized, self.centered = wrapping.linearized, wrapping.centered
        if lazy and learning_rate is None:
            raise SettingError(
                "optimizer.rule lazy scales optimizer.learning_rate, which this "
                "optimiser does not have."
            )
        if lazy:
            learning_rate = optim.lazy_learning_rate(
                learning_rate, self.output_scale, made.width
            )
        self.learning_rate = learning_rate

    def lift(self, function: Callable, anchor: Params) -> Callable:
        """`function` of the parameters, linearised and centred if the network is."""
        if self.linearized:
            function = ntk.linearize(function, anchor)
        if self.centered:
            function = wrappers.center(function, anchor)
        return function

    def _inner(self, anchor: Params) -> Apply:
        apply = self.model.apply
        for wrap in self.wraps:
            apply = wrap(apply, anchor)
        return apply

    def apply(self, anchor: Params) -> Apply:
        """The wrapped network, given its parameters at step 0."""
        lifted = self.lift(self._inner(anchor), anchor)
        return wrappers.scale_output(lifted, self.output_scale)

    def kernel(
        self,
        anchor: Params,
        params: Params,
        x1: Array,
        x2: Array,
        kind: ntk.Kind = "trace",
    ) -> Array:
        """The NTK of the network without its output scale; `trace` is [n1, n2]."""
        if self.linearized:
            params = anchor
        other = None if x2 is x1 else x2
        return ntk.empirical_ntk(self._inner(anchor), params, x1, other, kind=kind)


def with_sizes(model: Part, task: Part) -> Part:
    """The model with sizes that are 0 replaced by those of the data.

    Raises: SettingError if a size is smaller than the data's, or 0 and unknown.
    """
    wanted = [name for name in SIZES if name in model.settings]
    if not wanted:
        return model
    known, new = sizes_of(task), {}
    for name in wanted:
        given, needed = model[name], known.get(name)
        if not given and needed is None:
            raise SettingError(
                f"model.{name} cannot be inferred from this task's data; set it, or "
                "make the task a `grok_jax.types.Task` with sizes."
            )
        if not given:
            new[name] = needed
        elif needed is not None and given < needed:
            raise SettingError(
                f"model.{name} is {given}, but the data need {needed}; leave it out "
                "to use that."
            )
    return model.replace(**new)


def sizes_of(task: Part) -> dict[str, int]:
    """The numbers of inputs, tokens and outputs of a task's data, if known from the
    data's shapes or the task's `sizes`; 0 if the data have none."""
    maker = task.make if isinstance(task.make, Task) else Task(task.make)
    found = {}
    if maker.load is None:
        train: Split = jax.eval_shape(lambda: task(rng.run_keys(0))).train
        if jnp.issubdtype(train.x.dtype, jnp.floating):
            found |= {"inputs": train.x.shape[-1], "vocabulary": 0}
        if jnp.issubdtype(train.y.dtype, jnp.floating):
            found["outputs"] = train.y.shape[1] if train.y.ndim > 1 else 0
    if maker.sizes is not None:
        settings = {name: task[name] for name in schema(maker.sizes)}
        found = {"vocabulary": 0, "outputs": 0, **found, **maker.sizes(**settings)}
    return found
