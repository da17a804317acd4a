"""flax modules and subsets of parameters as a function and its parameters."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from grok_jax import tree
from grok_jax.types import Apply, Params


def of(model: Any, variables: Any = None, **settings: Any) -> tuple[Apply, Params]:
    """A flax module as (apply_fn, params), for any function of this package.

    State beside the parameters stays as it is: running averages of a BatchNorm are
    constants, and an nnx module is taken in its evaluation mode (`model.eval()`), in
    which dropout is off. A linen module has no such mode; pass what switches it, such
    as `train=False`.

    Args:
      model: a linen module, or an nnx module with its weights.
      variables: of a linen module, as `init` returns them; None for nnx.
      settings: passed to each call of the module.

    Raises:
      ValueError: `model` is no flax module, or a linen module comes without "params".

    >>> import flax.linen as nn, jax.numpy as jnp
    >>> dense, x = nn.Dense(2, use_bias=False), jnp.eye(3)
    >>> apply_fn, params = of(dense, dense.init(jax.random.key(0), x))
    >>> from grok_jax import ntk
    >>> print(ntk.empirical_ntk(apply_fn, params, x))
    [[1. 0. 0.]
     [0. 1. 0.]
     [0. 0. 1.]]
    """
    from flax import linen, nnx

    if isinstance(model, nnx.Module):
        return _of_nnx(model, settings)
    if not isinstance(model, linen.Module):
        raise ValueError(
            f"A flax module is needed; got {type(model).__name__}. Any function of "
            "(params, x) is used as it is."
        )
    if variables is None or "params" not in variables:
        raise ValueError(
            f"The linen module {type(model).__name__} needs its variables, with "
            "'params' among them, as `init` returns them."
        )
    rest = {name: value for name, value in variables.items() if name != "params"}

    def apply(params: Params, x: Array) -> Array:
        outputs: Any = model.apply({"params": params, **rest}, x, **settings)
        return outputs

    return apply, variables["params"]


def _of_nnx(model: Any, settings: dict[str, Any]) -> tuple[Apply, Params]:
    from flax import nnx

    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def apply(new: Params, x: Array) -> Array:
        state = jax.tree.map(lambda a: a, params)  # a copy, to be written to
        nnx.replace_by_pure_dict(state, new)
        merged = nnx.merge(graph, state, rest)
        merged.eval()
        return merged(x, **settings)

    return apply, nnx.to_pure_dict(params)


def only(
    trainable: Callable[[str], bool], apply_fn: Apply, params: Params
) -> tuple[Apply, dict[str, Array]]:
    """The same network with all but some leaves frozen, as (apply_fn, params).

    Its kernel is the sum of the kernels of the leaves that are left, such as a LoRA's
    or the last layer's.

    Args:
      trainable: takes a leaf's path, such as "Dense_0.kernel"; true: the leaf is left.

    Returns:
      apply_fn of a flat dictionary {path: leaf}, and that dictionary.

    Raises:
      ValueError: no leaf is left.

    >>> import jax.numpy as jnp
    >>> params = {"a": jnp.ones(2), "b": jnp.zeros(())}
    >>> f = lambda p, x: x @ p["a"] + p["b"]
    >>> f_b, left = only(lambda path: path == "b", f, params)
    >>> print(list(left), f_b(left, jnp.ones((1, 2))))
    ['b'] [2.]
    """
    every, structure = tree.flat_names(params), jax.tree.structure(params)
    left = {name: leaf for name, leaf in every.items() if trainable(name)}
    if not left:
        raise ValueError(f"No leaf is left; there are {', '.join(every)}.")

    def apply(some: Params, x: Array) -> Array:
        leaves = [some.get(name, leaf) for name, leaf in every.items()]
        return apply_fn(structure.unflatten(leaves), x)

    return apply, left
