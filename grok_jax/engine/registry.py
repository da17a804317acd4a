"""The built-in parts by their names on the command line and in `config.json`; other
parts are named "module:name" or "file.py:name"."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import optax
from jax import Array

from grok_jax import losses, observables, optim
from grok_jax.models import modules
from grok_jax.models.cluster_net import cluster_net
from grok_jax.models.committee import committee
from grok_jax.models.fnn import fnn
from grok_jax.models.gcn import gcn
from grok_jax.models.lstm import lstm
from grok_jax.models.mlp import mlp
from grok_jax.models.transformer import transformer
from grok_jax.models.two_layer import quadratic
from grok_jax.settings import Leaf, SettingError, lookup, schema, summary
from grok_jax.tasks.eigenlabels import eigenlabels
from grok_jax.tasks.imdb import imdb, load_reviews, review_sizes
from grok_jax.tasks.mnist import load_digits, mnist, ten_classes
from grok_jax.tasks.modular import (
    load_embedding,
    modular,
    modular_embedded,
    modular_sizes,
    modular_tokens,
    token_sizes,
)
from grok_jax.tasks.parity import sparse_parity
from grok_jax.tasks.polynomial import polynomial
from grok_jax.tasks.qm9 import load_molecules, one_output, qm9
from grok_jax.tasks.teacher_student import teacher_student
from grok_jax.tasks.toy_addition import toy_addition
from grok_jax.tasks.xor import xor_clusters
from grok_jax.theory.committee import exact_dynamics, exact_flow
from grok_jax.train import threshold
from grok_jax.types import Model, Task

TASKS: dict[str, Task] = {
    "polynomial": Task(polynomial),
    "eigenlabels": Task(eigenlabels),
    "modular": Task(modular, sizes=modular_sizes),
    "teacher_student": Task(teacher_student),
    "toy_addition": Task(toy_addition),
    "modular_tokens": Task(modular_tokens, sizes=token_sizes),
    "modular_embedded": Task(modular_embedded, load_embedding, modular_sizes),
    "sparse_parity": Task(sparse_parity),
    "xor_clusters": Task(xor_clusters),
    "mnist": Task(mnist, load_digits, ten_classes),
    "imdb": Task(imdb, load_reviews, review_sizes),
    "qm9": Task(qm9, load_molecules, one_output),
}
MODELS: dict[str, Callable[..., Model]] = {
    "committee": committee,
    "committee_dynamics": exact_dynamics,
    "committee_flow": exact_flow,
    "quadratic": quadratic,
    "mlp": mlp,
    "fnn": fnn,
    "cluster_net": cluster_net,
    "lstm": lstm,
    "gcn": gcn,
    "transformer": transformer,
}
LOSSES: dict[str, Callable[..., losses.Loss]] = {
    "squared_error": losses.regression,
    "classification": losses.classification,
    "binary_cross_entropy": losses.binary_cross_entropy,
    "exponential": losses.exponential,
}
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "gradient_descent": optim.gradient_descent,
    "adamw": optim.adamw,
}
STOPS: dict[str, Callable[..., Array]] = {"threshold": threshold}
GRADIENTS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "grokfast_ema": optim.grokfast_ema,
    "grokfast_ma": optim.grokfast_ma,
    "orthogonal": optim.orthogonal_gradient,
}
OBSERVABLES: dict[str, Callable[..., dict[str, Array]]] = {
    "norms": observables.norms,
    "kernel_alignment": observables.kernel_alignment,
    "difficulty": observables.difficulty,
    "population_risk": observables.population_risk,
    "kernel_snapshots": observables.kernel_snapshots,
    "embedding_fourier": observables.embedding_fourier,
    "parameter_snapshots": observables.parameter_snapshots,
    "softmax_collapse": observables.softmax_collapse,
    "xor_norms": observables.xor_norms,
    "xor_embedding": observables.xor_embedding,
    "xor_target": observables.xor_target,
    "xor_one_step": observables.xor_one_step,
}

REGISTRIES: dict[str, dict[str, Any]] = {
    "task": TASKS,
    "model": MODELS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "observable": OBSERVABLES,
    "gradient transformation": GRADIENTS,
    "wrapper": {},
    "stop rule": STOPS,
}


def told(what: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """(name, what it is, setting -> default and choices) of every built-in part of a
    kind, from signatures and docstrings."""
    for name, known in REGISTRIES[what].items():
        make = known.make if isinstance(known, Task) else known
        settings = {key: _told(leaf) for key, leaf in schema(make).items()}
        yield name, summary(make.__doc__), settings


def _told(leaf: Leaf) -> str:
    """The default of a setting, its choices, and whether it is static."""
    known = {None: "-", "": "-"}
    shown = "required" if leaf.required else str(known.get(leaf.default, leaf.default))
    others = ", ".join(each for each in leaf.choices if each != leaf.default)
    choices = f" (or {others})" if others else ""
    return f"{shown}{choices}{'' if leaf.choices or not leaf.static else ', static'}"


def find(what: str, name: Any) -> Callable:
    """The part with this name; anything callable is returned as it is.

    Raises: SettingError if there is no such part.
    """
    if not isinstance(name, str):
        if not callable(name):
            raise SettingError(
                f"The {what} is of type {type(name).__name__}; its name must be a "
                "function that makes it, with its settings beside it."
            )
        if what == "model" and modules.is_flax(type(name)):
            raise SettingError(
                f"The model is an instance of {type(name).__name__}; its name must be "
                "the class, with its settings beside it."
            )
        return name
    if ":" not in name:
        return lookup(REGISTRIES[what], name, what)
    place, _, attribute = name.rpartition(":")
    try:
        found: Any = module_at(place)
        for each in attribute.split("."):
            found = getattr(found, each)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise SettingError(f"There is no {what} {name!r}: {error}.") from error
    return found


def module_at(place: str) -> ModuleType:
    """A module by its name or by its file; if there is no such file, a loaded page of
    that name."""
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = Path(place)
    if path.is_file():
        return sys.modules.get(str(path.resolve())) or load_file(path)
    for known, module in list(sys.modules.items()):
        if path.name == place and known.endswith(f"/{place}"):
            return module
    raise ImportError(f"there is no file {place}")


def load_file(path: Path) -> ModuleType:
    """Runs a Python file as a new module. The module's name is its path, which tells
    where its parts are from."""
    name = str(path.resolve())
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def name_of(what: str, part: Any) -> str:
    """The name by which `find` finds a part.

    Raises: SettingError if it has none, like a lambda or a function inside another.
    """
    for name, known in REGISTRIES[what].items():
        if known is part:
            return name
    make = part.make if isinstance(part, Task) else part
    name = make.__qualname__
    if isinstance(part, Task):
        known = vars(sys.modules[make.__module__]).items()
        name = next((key for key, value in known if value is part), "<task>")
    return _with_module(what, make, name)


def _with_module(what: str, made: Any, name: str) -> str:
    """ "module:name" or "file.py:name".

    Raises: SettingError if nothing of that name can be found again.
    """
    module = made.__module__
    if "<" in name or module == "__main__":
        raise SettingError(
            f"The {what} {made.__qualname__} has no name by which a later launch could "
            "find it; define it at module level, or run without a workdir."
        )
    return f"{Path(module).name if module.endswith('.py') else module}:{name}"


def as_json(path: str, value: Any) -> Any:
    """The value of a setting as JSON has it: a callable by its name, a tuple as a list,
    and as text what JSON does not know, such as a dtype.

    Raises: SettingError for a callable without a name, like a lambda.
    """
    if isinstance(value, Mapping):
        return {key: as_json(f"{path}.{key}", each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [as_json(path, each) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "__qualname__"):
        return _with_module(path, value, value.__qualname__)
    if " at 0x" in str(value):  # another text in the next launch
        return _with_module(path, type(value), "<object>")
    return str(value)


def label(what: str, part: Any) -> str:
    """The name of a part, or else the name in its definition."""
    try:
        return name_of(what, part)
    except SettingError:
        return getattr(part, "__qualname__", repr(part))
