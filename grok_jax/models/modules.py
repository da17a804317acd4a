"""flax modules as models: linen and nnx classes, and functions that make a module.

A model here is a function of its parameters and of x, and no more: a module that keeps
anything beside parameters (BatchNorm's averages, dropout's random state) is refused.
"""

from typing import Any

import jax
from jax import Array

from grok_jax.parts import Part
from grok_jax.settings import SettingError
from grok_jax.types import Model, Params


def as_model(own: Part) -> Model:
    """The model of a part: what it makes, or what its flax module is.

    Raises: SettingError where it makes neither.
    """
    kinds = _bases(own.make)
    if "flax.nnx.module.Module" in kinds:
        return _nnx(own)
    made = own()
    if isinstance(made, Model):
        return made
    if "flax.linen.module.Module" in _bases(type(made)):
        return _linen(made)
    name = getattr(own.make, "__qualname__", repr(own.make))
    raise SettingError(
        f"model.name {name} makes a {type(made).__name__}; it must be a flax Module or "
        "make a grok_jax.types.Model."
    )


def _bases(make: Any) -> set[str]:
    """The classes that a class is, by name, so that flax is imported by those alone who
    have imported it."""
    bases = getattr(make, "__mro__", ())
    return {f"{base.__module__}.{base.__qualname__}" for base in bases}


def _linen(module: Any) -> Model:
    def init(key: Array, x: Array) -> Params:
        variables = dict(module.init(key, x))
        params = variables.pop("params", {})
        _refuse_state(type(module).__name__, sorted(variables))
        return params

    def apply(params: Params, x: Array) -> Array:
        return module.apply({"params": params}, x)

    return Model(init, apply)


def _nnx(own: Part) -> Model:
    from flax import nnx

    def build(key: Array) -> Any:
        return own(rngs=nnx.Rngs(key))

    def init(key: Array, x: Array) -> Params:
        del x
        _, params, rest = nnx.split(build(key), nnx.Param, ...)
        kinds = {type(leaf).__name__ for leaf in nnx.to_flat_state(rest).leaves}
        _refuse_state(own.make.__name__, sorted(kinds))
        return nnx.to_pure_dict(params)

    def apply(params: Params, x: Array) -> Array:
        shapes = nnx.eval_shape(lambda: build(jax.random.key(0)))
        definition, state = nnx.split(shapes)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(definition, state)(x)

    return Model(init, apply)


def _refuse_state(name: str, kinds: list[str]) -> None:
    if kinds:
        raise SettingError(
            f"{name} keeps state beside its parameters ({', '.join(kinds)}); a model "
            "here is a function of its parameters and x alone: leave out dropout, and "
            "normalise without running averages (LayerNorm, RMSNorm, GroupNorm)."
        )
