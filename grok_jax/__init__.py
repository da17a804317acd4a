"""Grokking in JAX: lazy to rich, Omnigrok and GrokTransfer as one working system.

The primitives can be used on their own; a module is imported on first access:

    import grok_jax

    results = grok_jax.run(config)
    kernel = grok_jax.ntk.empirical_ntk(apply_fn, params, x)
"""

import importlib
import pkgutil
from typing import Any

__version__ = "0.1.0"

_FUNCTIONS = {
    "run": "engine.session",
    "make_config": "engine.config",
    "params": "engine.states",
}
_MODULES = {module.name for module in pkgutil.iter_modules(__path__)}


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    modules = (name for name in _MODULES if name[0] != "_")
    return sorted({*globals(), *_FUNCTIONS, *modules})
