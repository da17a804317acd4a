"""flax modules as models: linen and nnx classes, and functions that make a module.

A model is a function of its parameters and x only: modules with other state
(BatchNorm's running averages, dropout's random state) are refused.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

import jax
from jax import Array

from grok_jax.parts import Part
from grok_jax.settings import SettingError
from grok_jax.types import Model, Params


def as_model(own: Part) -> Model:
    """The model of a part, which makes a `Model` or a flax module.

    Raises: SettingError where it makes neither.
    """
    if "flax.nnx.module.Module" in _bases(own.make):
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
    """The names of a class and its base classes; comparing names avoids importing flax
    for users who have not imported it."""
    bases = getattr(make, "__mro__", ())
    return {f"{base.__module__}.{base.__qualname__}" for base in bases}


def is_flax(kind: type) -> bool:
    """Whether a class is a flax module, of linen or nnx."""
    modules = {"flax.linen.module.Module", "flax.nnx.module.Module"}
    return bool(modules & _bases(kind))


def _linen(module: Any) -> Model:
    name = type(module).__name__

    def init(key: Array, x: Array) -> Params:
        with _no_draws(name):
            variables = dict(module.init(key, x))
        params = variables.pop("params", {})
        _refuse_state(name, sorted(variables))
        return params

    def apply(params: Params, x: Array) -> Array:
        with _no_draws(name):
            return module.apply({"params": params}, x)

    return Model(init, apply)


def _nnx(part: Part) -> Model:
    from flax import nnx

    def build(key: Array) -> Any:
        return part(rngs=nnx.Rngs(key))

    def init(key: Array, x: Array) -> Params:
        del x
        _, params, rest = nnx.split(build(key), nnx.Param, ...)
        kinds = {type(leaf).__name__ for leaf in nnx.to_flat_state(rest).leaves}
        _refuse_state(part.make.__name__, sorted(kinds))
        return nnx.to_pure_dict(params)

    def apply(params: Params, x: Array) -> Array:
        shapes = nnx.eval_shape(lambda: build(jax.random.key(0)))
        definition, state = nnx.split(shapes)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(definition, state)(x)

    return Model(init, apply)


@contextlib.contextmanager
def _no_draws(name: str) -> Iterator[None]:
    """Refuses a module of linen that asks for random numbers, as dropout does."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "InvalidRngError":
            raise
        _refuse(name, "draws random numbers when it is called")


def _refuse_state(name: str, kinds: list[str]) -> None:
    if kinds:
        _refuse(name, f"keeps state beside its parameters ({', '.join(kinds)})")


def _refuse(name: str, what: str) -> NoReturn:
    raise SettingError(
        f"{name} {what}; a model must be a function of its parameters and x only: "
        "leave out dropout, and normalise without running averages (LayerNorm, "
        "RMSNorm, GroupNorm)."
    )
