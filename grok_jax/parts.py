"""A part of an experiment: a callable and the settings that it is called with.

    part(sines, noise=0.1)          anybody's callable, as a page gives it
    dict(name="mnist", ...)         the same by its name in the registry

The callable's signature declares the settings (`settings.schema`). A part is a pytree:
the settings that are traced are its leaves; the callable and the static settings are
its structure. So an experiment, which is a tree of parts, goes through `jit` and `vmap`
as it is, and runs share a compiled program exactly where the structures are equal.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from grok_jax.settings import NOTHING, Leaf, SettingError, nearest, schema


@jax.tree_util.register_pytree_node_class
class Part:
    """`make(..., **settings)`; every setting of `make` is there and checked."""

    __slots__ = ("make", "settings")

    def __init__(self, make: Callable, settings: Mapping[str, Any]):
        self.make = make
        self.settings = dict(settings)

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]

    def __call__(self, *args: Any, **more: Any) -> Any:
        return self.make(*args, **self.settings, **more)

    def __repr__(self) -> str:
        own = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"part({getattr(self.make, '__qualname__', self.make)}, {own})"

    def replace(self, **changes: Any) -> "Part":
        return Part(self.make, {**self.settings, **changes})

    def leaf(self, name: str) -> Leaf:
        """The declaration of a setting."""
        return schema(self.make)[name]

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
    """`make` at its defaults; a setting that has none is not there yet."""
    leaves = schema(make).items()
    return Part(
        make, {n: leaf.default for n, leaf in leaves if leaf.default is not NOTHING}
    )


def part(make: Callable, **given: Any) -> Part:
    """`make` with these settings and the defaults of the others, checked.

    >>> from grok_jax.tasks.polynomial import polynomial
    >>> part(polynomial, input_dim=7)["input_dim"]
    7

    Raises: SettingError where a setting is unknown, missing, of another type or out of
    its range.
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
