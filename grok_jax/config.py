"""ConfigDict <-> plain settings: defaults, presets, overrides, validation.

A configuration has the sections task, model, loss, optimizer (each with a `name`, that
of a registered part or the part itself, and the part's settings), train, stop, seeds,
observe, reference, grok and engine, and `sweep` (axis -> values) with `zip`. Every
default and range stands in the signature of the part it belongs to.
"""

import ast
import contextlib
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from ml_collections import ConfigDict

from grok_jax import checks, hosts, registry
from grok_jax.experiment import (
    FIXED,
    SECTIONS,
    SEED,
    Experiment,
    Observed,
    Rhythm,
)
from grok_jax.grid import make_grid
from grok_jax.grid import resolve as full_path
from grok_jax.parts import Part
from grok_jax.planning import Engine
from grok_jax.programs import Plan, named_settings
from grok_jax.runner import Grok
from grok_jax.settings import (
    NOTHING,
    Leaf,
    Natural,
    NonNegative,
    Positive,
    SettingError,
    nearest,
    schema,
)
from grok_jax.types import Device


def _engine(
    *,
    mode: Literal["auto", "map", "vmap"] = "auto",
    runs_per_chunk: Natural = 0,
    devices: Natural = 0,
    platform: Literal["", "cpu", "gpu", "tpu"] = "",
    precision: Literal["highest", "high", "default"] = "highest",
    x64: bool = False,
    deterministic: bool = True,
    compilation_cache: bool = True,
    memory_gb: NonNegative = 0.0,
    segment_seconds: Positive = 2.0,
    checkpoint_seconds: Positive = 30.0,
) -> None: ...


def _grok(
    *,
    kind: Literal["loss", "accuracy"] = "loss",
    train: Positive = 0.05,
    test: Positive = 0.1,
) -> None: ...


def _top(*, name: str = "", description: str = "") -> None: ...


CACHE = Path("~/.cache/grok_jax/programs").expanduser()
"""Where compiled programs are kept, unless JAX was told of another place."""

_DEFAULT_NAMES = {
    "task": "polynomial",
    "model": "committee",
    "loss": "squared_error",
    "optimizer": "gradient_descent",
}


def make_config(*layers: Mapping[str, Any]) -> ConfigDict:
    """A configuration from nested settings; later layers win, defaults fill the rest.

    Raises:
      SettingError: a key that no part knows, with the nearest ones.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _merge(merged, layer)
    sweep, zips = merged.pop("sweep", {}), merged.pop("zip", ())
    for name, own in merged.get("observe", {}).items():
        merged["observe"] = {**merged["observe"], name: {"every": 1, **own}}
    given = _flatten(merged)
    leaves = _leaves(given)
    for path in given:
        if path not in leaves:
            raise SettingError(
                f"There is no setting {path!r}; {nearest(path, leaves)}."
            )
    values = {
        path: given.get(path, leaf.default)
        for path, leaf in leaves.items()
        if path in given or leaf.default is not NOTHING
    }
    config = ConfigDict(_nest(values))
    axes = {axis: _as_tuple(values) for axis, values in _flatten(sweep).items()}
    config.sweep = ConfigDict(_nest(axes))
    config.zip = tuple(zips)
    return config


def logspace(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` values from `low` to `high` in equal ratios, for a swept axis; rounded
    to four digits, so that they read as they are.

    >>> logspace(0.1, 10, 3)
    (0.1, 1.0, 10.0)
    """
    return tuple(float(f"{v:.4g}") for v in np.geomspace(low, high, count))


def choose_preset(preset: str, **presets: Mapping[str, Any]) -> Mapping[str, Any]:
    """The layer of a preset; an unknown one names those there are."""
    if preset not in presets:
        raise SettingError(
            f"There is no preset {preset!r}; known: {', '.join(presets)}."
        )
    return presets[preset]


def _makes(given: Mapping[str, Any]) -> dict[str, Any]:
    """section -> the callable that its `name` chooses, observables' among them."""
    chosen = {
        section: registry.find(section, given.get(f"{section}.name", default))
        for section, default in _DEFAULT_NAMES.items()
    }
    for name in dict.fromkeys(p.split(".")[1] for p in given if p[:8] == "observe."):
        chosen[f"observe.{name}"] = registry.find(
            "observable", given.get(f"observe.{name}.name", name)
        )
    return chosen


def _sections(makes: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """section -> the callables whose settings it holds."""
    plain = {
        section: tuple(FIXED.get(field) or makes[field] for field in fields)
        for section, fields in SECTIONS.items()
    }
    observed = {name: (makes[name], Rhythm) for name in makes if name not in plain}
    return {**plain, **observed}


def _leaves(given: Mapping[str, Any]) -> dict[str, Leaf]:
    """Every setting of a configuration whose parts `given` names."""
    own = {p for p in given if p.startswith("observe.") and p.endswith(".name")}
    named = {f"{section}.name": name for section, name in _DEFAULT_NAMES.items()}
    named |= {path: path.split(".")[1] for path in own}
    sections = {**_sections(_makes(given)), "engine": (_engine,), "grok": (_grok,)}
    return {
        **schema(_top),
        **{path: Leaf(object, default) for path, default in named.items()},
        "seed": SEED,
        **{
            f"{section}.{key}": leaf
            for section, makes in sections.items()
            for make in makes
            for key, leaf in schema(make).items()
        },
    }


def apply_overrides(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """`config` with "path=value" settings on top; the original is left alone.

    A path may be short where its ending is unique. `sweep.NAME=a,b,c` adds or replaces
    an axis; `zip=a+b` zips axes; `model.name=...` brings the new part's defaults and
    keeps what was set and both parts have; `observe.NAME.every=n` adds an observable.
    """
    given = _flatten(config.to_dict())
    pairs = [_split(text) for text in overrides]
    for path, text in sorted(pairs, key=lambda pair: not pair[0].endswith(".name")):
        if path.startswith("sweep."):
            axis = path.removeprefix("sweep.")
            same = [key for key in given if key.startswith("sweep.")]
            same = [key for key in same if _same_axis(key.removeprefix("sweep."), axis)]
            given = {key: v for key, v in given.items() if key not in same}
            given[path] = _parse_tuple(text)
        elif path == "zip":
            given[path] = tuple(text.split(",")) if text else ()
        else:
            given = _with_setting(given, path, text)
    nested, known = _nest(given), _leaves(given)
    sweep, zips = nested.pop("sweep", {}), nested.pop("zip", ())
    kept = {path: value for path, value in _flatten(nested).items() if path in known}
    return make_config(_nest(kept), {"sweep": sweep, "zip": zips})


def _with_setting(given: dict[str, Any], path: str, text: str) -> dict[str, Any]:
    trial = {**given, path: text} if path.startswith("observe.") else given
    leaves = _leaves(trial)
    if path.endswith(".name") and path in leaves:
        section = path.removesuffix("name")
        kept = {
            key: value
            for key, value in given.items()
            if not key.startswith(section) or value != leaves[key].default
        }
        given = {**kept, path: text}
        _leaves(given)  # raises where there is no such part
        return given
    if path not in leaves:
        endings = [known for known in leaves if known.endswith(f".{path}")]
        if not endings:
            known = [*leaves, *(f"sweep.{leaf}" for leaf in leaves), "zip"]
            raise SettingError(
                f"There is no setting {path!r}; "
                f"{nearest(path, known if path.startswith('sweep') else leaves)}."
            )
        path = full_path(path, leaves)
    leaf = leaves[path]
    return {**given, path: leaf.check(path, _parse(text, leaf.kind))}


def _same_axis(one: str, other: str) -> bool:
    short = min(one, other, key=len)
    return one == other or max(one, other, key=len).endswith(f".{short}")


def _split(text: str) -> tuple[str, str]:
    path, found, value = text.partition("=")
    if not found:
        raise SettingError(f"Write --config.{path}=VALUE; there is no value.")
    return path, value


def _parse(text: str, kind: type) -> Any:
    if kind is str:
        return text
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(
            text.lower(), text
        )
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _parse_tuple(text: str) -> tuple[Any, ...]:
    text = text.strip().removeprefix("(").removesuffix(")")
    words = (word.strip() for word in text.split(",") if word.strip())
    truth = {"true": True, "false": False}
    return tuple(truth.get(w.lower(), _parse(w, float)) for w in words)


@dataclass(frozen=True)
class Resolved:
    """A configuration, checked, in the terms of the floors below."""

    name: str
    description: str
    plan: Plan
    engine: dict[str, Any]
    grok: Grok
    compared: dict[str, Any]
    """Beside the plan, what can change a number."""

    @property
    def stored(self) -> dict[str, Any]:
        """What config.json holds and a second launch is compared with. How to run
        (`engine`) may differ between launches.

        Raises: SettingError where a part has no name.
        """
        return {
            "name": self.name,
            "description": self.description,
            **named_settings(self.plan.experiment, registry.name_of),
            **self.compared,
        }


def resolve(config: ConfigDict) -> Resolved:
    """Checks every value, every axis and how the parts go together.

    Raises:
      SettingError: with one sentence, before anything is computed.
    """
    nested = config.to_dict()
    sweep, zips = nested.pop("sweep", {}), nested.pop("zip", ())
    flat = _flatten(nested)
    leaves = _leaves(flat)
    for path in flat:
        if path not in leaves:
            raise SettingError(
                f"There is no setting {path!r}; {nearest(path, leaves)}."
            )
    for path, leaf in leaves.items():
        if leaf.required and path not in flat:
            raise SettingError(f"{path} has no default; give it a value.")
    values = {p: leaf.check(p, flat[p]) for p, leaf in leaves.items() if p in flat}
    makes = _makes(flat)
    experiment = _experiment(makes, values)
    own = {"name", "description"} | {p for p in leaves if p.endswith(".name")}
    beside = {p for p in leaves if p.startswith(("engine.", "grok."))}
    swept = {path: leaf for path, leaf in leaves.items() if path not in own | beside}
    plan = Plan(experiment, make_grid(swept, _flatten(sweep), zips))
    for run in plan.grid.runs():
        checks.validate({**plan.settings, **run})
    names = ("precision", "x64", "mode", "deterministic")
    exact = [f"engine.{name}" for name in names]
    return Resolved(
        name=values["name"],
        description=values["description"],
        plan=plan,
        engine=checks.section_of(values, "engine"),
        grok=Grok(**checks.section_of(values, "grok")),
        compared={
            **{path: values[path] for path in sorted(beside) if "grok." in path},
            **{path: values[path] for path in exact},
            "sweep": {axis.name: axis.values for axis in plan.grid.axes},
            "zip": list(zips),
        },
    )


def _experiment(makes: Mapping[str, Any], values: Mapping[str, Any]) -> Experiment:
    def own(make: Any, section: str) -> Part:
        found = {key: f"{section}.{key}" for key in schema(make)}
        return Part(make, {k: values[p] for k, p in found.items() if p in values})

    fields = {
        field: own(FIXED.get(field) or makes[field], section)
        for section, names in SECTIONS.items()
        for field in names
    }
    observe = {
        section.removeprefix("observe."): Observed(
            own(make, section), own(Rhythm, section)
        )
        for section, make in makes.items()
        if section.startswith("observe.")
    }
    return Experiment(seed=values["seed"], observe=observe, **fields)


def set_up_jax(engine: Mapping[str, Any]) -> Engine:
    """Sets precision, platform and devices (on a CPU each core is a device), and says
    what is there. With several processes (`hosts`) the devices are those of all.

    Raises:
      SettingError: the platform asked for is not here, or has fewer devices.
    """
    jax.config.update("jax_default_matmul_precision", engine["precision"])
    jax.config.update("jax_enable_x64", engine["x64"])
    _set_up_cache(engine["compilation_cache"])
    if engine["platform"]:
        jax.config.update("jax_platforms", engine["platform"].replace("gpu", "cuda"))
    wanted = engine["devices"]
    with contextlib.suppress(RuntimeError):  # where this process has devices already
        jax.config.update("jax_num_cpu_devices", wanted or _cores())
    try:
        devices = jax.local_devices()
    except RuntimeError as error:
        raise SettingError(
            f"engine.platform is {engine['platform']}, but this machine has none: "
            f"{str(error).splitlines()[0]}"
        ) from error
    if wanted > len(devices):
        raise SettingError(
            f"engine.devices is {wanted}; this machine has {len(devices)}."
        )
    chosen = hosts.devices(wanted or len(devices))
    return Engine(
        mode=engine["mode"],
        runs_per_chunk=engine["runs_per_chunk"],
        segment_seconds=engine["segment_seconds"],
        checkpoint_seconds=engine["checkpoint_seconds"],
        memory_gb=engine["memory_gb"],
        deterministic=engine["deterministic"],
        devices=chosen,
    )


def _set_up_cache(wanted: bool) -> None:
    """Programs that were compiled before are read back, from where JAX was told to keep
    them (JAX_COMPILATION_CACHE_DIR) or else from ~/.cache/grok_jax/programs."""
    folder = getattr(jax.config, "jax_compilation_cache_dir", None) or str(CACHE)
    jax.config.update("jax_compilation_cache_dir", folder if wanted else None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def device_text(devices: Sequence[Device]) -> str:
    """How many of which device: "2 x CPU (x86_64)"."""
    kind = devices[0].device_kind
    if devices[0].platform == "cpu":
        kind = f"CPU ({platform.machine()})"
    return f"{len(devices)} x {kind}"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _as_tuple(values: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, (list, tuple)) else (values,)


def _merge(base: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in layer.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = _merge(out[key], value) if both else value
    return out


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, key = path.split(".")
        at = nested
        for folder in folders:
            at = at.setdefault(folder, {})
        at[key] = value
    return nested
