"""A part of an experiment: a callable and the settings that it is called with.

    part(sines, noise=0.1)          any callable, given in a page
    dict(name="mnist", ...)         a registered callable, by its name

The callable's signature declares the settings (`settings.schema`). A part is a pytree:
traced settings are its leaves; the callable and the static settings are its structure.
An experiment, which is a tree of parts, therefore passes through `jit` and `vmap`, and
runs share a compiled program exactly if their structures are equal.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

from grok_jax.settings import NOTHING, SettingError, nearest, schema


@jax.tree_util.register_pytree_node_class
class Part:
    """`make(..., **settings)`, with every setting of `make` present and checked."""

    __slots__ = ("make", "settings")

    def __init__(self, make: Callable, settings: Mapping[str, Any]):
        self.make = make
        self.settings = dict(settings)

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]

    def __call__(self, *args: Any, **more: Any) -> Any:
        return self.make(*args, **self.settings, **more)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"part({getattr(self.make, '__qualname__', self.make)}, {given})"

    def made(self, kind: type, path: str, what: str, *args: Any, **more: Any) -> Any:
        """What the callable returns for these arguments.

        Raises: SettingError, naming `path` and `what` it must return, if it takes other
        arguments or returns no `kind`.
        """
        given = {**self.settings, **more}
        name = getattr(self.make, "__qualname__", repr(self.make))
        try:
            inspect.signature(self.make).bind(*args, **given)
        except TypeError as error:
            raise SettingError(
                f"{path} {name} cannot be called ({error}); it must be a function that "
                f"returns {what}."
            ) from error
        found = self.make(*args, **given)
        if not isinstance(found, kind):
            raise SettingError(
                f"{path} {name} must return {what}, not a {type(found).__name__}."
            )
        return found

    def replace(self, **changes: Any) -> "Part":
        return Part(self.make, {**self.settings, **changes})

    def tree_flatten(self) -> tuple[Any, Any]:
        leaves = schema(self.make)
        traced = tuple(name for name in self.settings if not leaves[name].static)
        static = tuple((n, v) for n, v in self.settings.items() if leaves[n].static)
        return [self.settings[n] for n in traced], (self.make, traced, static)

    @classmethod
    def tree_unflatten(cls, structure: Any, leaves: Any) -> "Part":
        make, traced, static = structure
        return cls(make, {**dict(static), **dict(zip(traced, leaves, strict=True))})


def plain(make: Callable) -> Part:
    """A part with default settings; settings without a default are left out."""
    leaves = schema(make).items()
    return Part(
        make, {n: leaf.default for n, leaf in leaves if leaf.default is not NOTHING}
    )


def part(make: Callable, **given: Any) -> Part:
    """A part with these settings, which are checked, and defaults for the others.

    >>> from grok_jax.tasks.polynomial import polynomial
    >>> part(polynomial, input_dim=7)["input_dim"]
    7

    Raises: SettingError if a setting is unknown, missing, of the wrong type or out of
    range.
    """
    leaves = schema(make)
    for name in given:
        if name not in leaves:
            raise SettingError(
                f"There is no setting {name!r}; {nearest(name, leaves)}."
            )
    for name, leaf in leaves.items():
        if leaf.required and name not in given:
            raise SettingError(f"{name} has no default; give it a value.")
    settings = {
        name: leaf.check(name, given[name]) if name in given else leaf.default
        for name, leaf in leaves.items()
        if name in given or leaf.default is not NOTHING
    }
    return Part(make, settings)
