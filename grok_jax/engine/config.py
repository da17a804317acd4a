"""ConfigDict <-> plain settings: defaults, presets, overrides, validation.

A configuration has the sections task, model, loss, optimizer and stop (each with a
`name`, that of a registered part or the part itself, and the part's settings), train,
seeds, reference, grok and engine; wrap, gradient and observe, which hold any number of
parts by names of their own; transfer, with a model and an optimizer of its own, where a
weak network comes first; `sweep` (axis -> values) with `zip`, and `arms` (name -> what
that arm has otherwise). Every default and range stands in the signature of the part it
belongs to.
"""

import ast
import contextlib
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from ml_collections import ConfigDict

from grok_jax.engine import hosts, registry
from grok_jax.engine.grid import Axis, Grid, make_grid
from grok_jax.engine.grid import resolve as full_path
from grok_jax.engine.planning import Engine
from grok_jax.engine.programs import Plan, named_settings
from grok_jax.engine.runner import Grok
from grok_jax.experiment import (
    CHOSEN,
    NAMED,
    WEAK,
    Experiment,
    assemble,
    leaves_of,
    with_settings,
)
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
    keep_gb: NonNegative = 1.0,
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


SHARED = {"": _top, "engine": _engine, "grok": _grok}
"""Sections that all runs have in common."""
CACHE = Path("~/.cache/grok_jax/programs").expanduser()
"""Where compiled programs are kept, unless JAX was told of another place."""

Flat = dict[str, Any]
"""path ("model.width") -> value"""


# --- making ---------------------------------------------------------------------------


def make_config(*layers: Mapping[str, Any]) -> ConfigDict:
    """A configuration from nested settings; later layers win, defaults fill the rest,
    and None takes out what an earlier layer has.

    Raises:
      SettingError: a key that no part knows, with the nearest ones.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _merge_layers(merged, layer)
    sweep, zips, arms = _split_off(merged)
    given = _flatten(_marked(merged))
    leaves = _known(given)
    values = {
        path: given.get(path, leaf.default)
        for path, leaf in leaves.items()
        if path in given or leaf.default is not NOTHING
    }
    for layer in arms.values():
        _known(_arm(values, layer))
    axes = {axis: _as_tuple(values) for axis, values in _flatten(sweep).items()}
    nested = {**_nest(values), "sweep": _nest(axes), "arms": arms, "zip": tuple(zips)}
    return _as_config_dict(nested)


def _as_config_dict(nested: Mapping[str, Any]) -> ConfigDict:
    """With the keys in the order in which they are given, at every level."""
    config = ConfigDict(sort_keys=False)
    for key, value in nested.items():
        config[key] = _as_config_dict(value) if isinstance(value, Mapping) else value
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


def _split_off(nested: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """(sweep, zip, arms), taken out of nested settings."""
    arms = dict(nested.pop("arms", {}))
    return nested.pop("sweep", {}), nested.pop("zip", ()), arms


def _marked(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings in which a part at its defaults, `norms={}`, leaves a trace."""
    marked = dict(nested)
    for section in NAMED:
        if section in nested:
            own = nested[section].items()
            marked[section] = {key: {"name": key, **part} for key, part in own}
    if "transfer" in nested:
        marked["transfer"] = {"source": "weak", **nested["transfer"]}
    return marked


def _arm(base: Flat, layer: Mapping[str, Any]) -> Flat:
    """The settings of an arm: those of all with its own on top. Where it names another
    part, that has its own defaults and what was set and both have."""
    kept = {path: value for path, value in base.items() if not _taken_out(path, layer)}
    own = _flatten(_marked(_merge({}, layer)))
    for path in sorted(own, key=lambda path: not path.endswith(".name")):
        renames = path.endswith(".name") and kept.get(path, own[path]) != own[path]
        kept = _with_name(kept, path, own[path]) if renames else kept
        kept[path] = own[path]
    return kept


def _taken_out(path: str, layer: Mapping[str, Any]) -> bool:
    at: Any = layer
    for key in path.split("."):
        if not isinstance(at, Mapping) or key not in at:
            return False
        at = at[key]
        if at is None:
            return True
    return False


def _with_name(given: Flat, path: str, name: Any) -> Flat:
    """The settings with another part at `path`, "model.name"."""
    section, leaves = path.removesuffix("name"), _leaves(given)
    kept = {
        key: value
        for key, value in given.items()
        if not key.startswith(section) or value != leaves[key].default
    }
    known = _leaves({**kept, path: name})  # raises where there is no such part
    return {key: kept.get(key, name) for key in [*kept, path] if key in known}


# --- what there is --------------------------------------------------------------------


def _makes(given: Flat) -> dict[str, Any]:
    """section -> the callable that its `name` chooses."""
    chosen = {**CHOSEN, **(WEAK if any(p[:9] == "transfer." for p in given) else {})}
    found = {
        section: registry.find(what, given.get(f"{section}.name", default))
        for section, (what, default) in chosen.items()
    }
    for section, key in _named(given):
        name = given.get(f"{section}.{key}.name", key)
        found[f"{section}.{key}"] = registry.find(NAMED[section], name)
    return found


def _named(given: Flat) -> list[tuple[str, str]]:
    """(section, key) of the parts that have names of their own, in their order."""
    pairs = (path.split(".")[:2] for path in given if path.count(".") > 1)
    own = [(first, key) for first, key in pairs if first in NAMED]
    return list(dict.fromkeys(own))


def _leaves(given: Flat) -> dict[str, Leaf]:
    """Every setting of a configuration whose parts `given` names."""
    makes = _makes(given)
    defaults = {
        f"{section}.name": default for section, (_, default) in [*_chosen(makes)]
    }
    defaults |= {f"{first}.{key}.name": key for first, key in _named(given)}
    shared = {
        f"{section}.{key}".lstrip("."): leaf
        for section, make in SHARED.items()
        for key, leaf in schema(make).items()
    }
    names = {path: Leaf(object, default) for path, default in defaults.items()}
    return {**shared, **names, **leaves_of(assemble(makes))}


def _chosen(makes: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    both = {**CHOSEN, **WEAK}
    return (pair for pair in both.items() if pair[0] in makes)


def _known(given: Flat) -> dict[str, Leaf]:
    """The leaves of `given`; raises SettingError where it has others."""
    leaves = _leaves(given)
    for path in given:
        if path not in leaves:
            raise SettingError(
                f"There is no setting {path!r}; {nearest(path, leaves)}."
            )
    return leaves


# --- overrides ------------------------------------------------------------------------


def apply_overrides(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """`config` with "path=value" settings on top; the original is left alone.

    A path may be short where its ending is unique. `sweep.NAME=a,b,c` adds or replaces
    an axis; `zip=a+b` zips axes; `model.name=...` brings the new part's defaults and
    keeps what was set and both parts have; `observe.NAME.every=n` adds an observable.
    A setting holds for every arm; `arms.NAME.path=value` sets it in one, and
    `arms=NAME,...` leaves the others out.
    """
    nested = config.to_dict()
    sweep, zips, arms = _split_off(nested)
    given, axes = _flatten(nested), _flatten(sweep)
    pairs = [_split(text) for text in overrides]
    for path, text in sorted(pairs, key=lambda pair: _rank(pair[0])):
        if path.startswith("sweep."):
            axes = _with_axis(axes, path.removeprefix("sweep."), _parse_tuple(text))
        elif path == "zip":
            zips = tuple(text.split(",")) if text else ()
        elif path == "arms":
            names = text.split(",")
            arms = {name: _layer_of(arms, name) for name in names if name}
        elif path.startswith("arms."):
            _, name, rest = f"{path}.".split(".", 2)
            layer, rest = _layer_of(arms, name), rest.removesuffix(".")
            setting, value = _read(_arm(given, layer), rest, text)
            arms[name] = _merge(layer, _nest({setting: value}), keep_none=True)
        else:
            given, arms = _with_setting(given, arms, path, text)
    return make_config(_nest(given), {"sweep": _nest(axes), "zip": zips, "arms": arms})


def _rank(path: str) -> tuple[bool, bool]:
    """What is for all comes first, and names before what they bring."""
    return path.startswith("arms."), not path.endswith(".name")


def _layer_of(arms: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if name not in arms:
        known = ", ".join(arms) or "none"
        raise SettingError(f"There is no arm {name!r}; known: {known}.")
    return arms[name]


def _with_axis(axes: Flat, axis: str, values: tuple[Any, ...]) -> Flat:
    """The axes with one added, or another in the place of the same one."""
    same = [key for key in axes if _same_axis(key, axis)]
    replaced = {axis if key in same else key: value for key, value in axes.items()}
    return {**replaced, axis: values}


def _same_axis(one: str, other: str) -> bool:
    short = min(one, other, key=len)
    return one == other or max(one, other, key=len).endswith(f".{short}")


def _with_setting(
    given: Flat, arms: dict[str, Any], path: str, text: str
) -> tuple[Flat, dict[str, Any]]:
    """The settings of all and of the arms with one more for all: where arms alone have
    such a setting, for those."""
    try:
        setting, value = _read(given, path, text)
    except SettingError:
        new = {}
        for name, layer in arms.items():
            with contextlib.suppress(SettingError):
                found = _nest(dict([_read(_arm(given, layer), path, text)]))
                new[name] = _merge(layer, found, keep_none=True)
        if not new:
            raise
        return given, {**arms, **new}
    if setting.endswith(".name") and setting.count(".") == 1:
        given = _with_name(given, setting, value)
    cleared = {name: _without(layer, setting) for name, layer in arms.items()}
    return {**given, setting: value}, cleared


def _read(given: Flat, path: str, text: str) -> tuple[str, Any]:
    """(the full path, the value) of an override, among the settings that there are and
    those that `path` brings with it."""
    section = path.split(".")[0]
    brings = section in NAMED or section == "transfer"
    leaves = _leaves({**given, path: text} if brings else given)
    if path not in leaves:
        endings = [known for known in leaves if known.endswith(f".{path}")]
        if not endings:
            known = [*leaves, *(f"sweep.{leaf}" for leaf in leaves), "zip", "arms"]
            raise SettingError(
                f"There is no setting {path!r}; "
                f"{nearest(path, known if path.startswith('sweep') else leaves)}."
            )
        path = full_path(path, leaves)
    leaf = leaves[path]
    if path.endswith(".name"):
        return path, text
    return path, leaf.check(path, _parse(text, leaf.kind))


def _without(layer: Mapping[str, Any], path: str) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    own = dict(layer)
    if rest and isinstance(own.get(first), Mapping):
        own[first] = _without(own[first], rest)
    elif not rest:
        own.pop(first, None)
    return own


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


# --- resolving ------------------------------------------------------------------------


@dataclass(frozen=True)
class Resolved:
    """A validated configuration, ready to run."""

    name: str
    description: str
    plan: Plan
    engine: dict[str, Any]
    grok: Grok
    compared: dict[str, Any]
    """Beside the plan, what can change a number."""

    @property
    def stored(self) -> dict[str, Any]:
        """What config.json holds and a second launch is compared with: of arms, what
        they have in common and, under "arms", what each has by itself. How to run
        (`engine`) may differ between launches.

        Raises: SettingError where a part has no name.
        """
        arms = self.plan.arms or {"": self.plan.experiment}
        each = {
            name: named_settings(own, registry.name_of) for name, own in arms.items()
        }
        first = next(iter(each.values()))
        common = {
            path: value
            for path, value in first.items()
            if all(path in own and own[path] == value for own in each.values())
        }
        apart = {
            name: {path: v for path, v in own.items() if path not in common}
            for name, own in each.items()
        }
        return {
            "name": self.name,
            "description": self.description,
            **common,
            **({"arms": apart} if self.plan.arms else {}),
            **self.compared,
        }


def resolve(config: ConfigDict) -> Resolved:
    """Checks every value, every axis and every arm.

    Raises:
      SettingError: with one sentence, before anything is computed.
    """
    nested = config.to_dict()
    sweep, zips, arms = _split_off(nested)
    flat = _flatten(_marked(nested))
    values = _checked(flat)
    experiment = _experiment(values)
    experiments = {
        name: _experiment(_of_arm(flat, a, name)) for name, a in arms.items()
    }
    grid = _grid(experiments or {"": experiment}, _flatten(sweep), zips)
    if experiments:
        experiment = next(iter(experiments.values()))
        names = tuple((name,) for name in experiments)
        grid = Grid((Axis("arm", ("arm",), names), *grid.axes))
    plan = Plan(experiment, grid, experiments)
    names = ("precision", "x64", "mode", "deterministic")
    exact = [f"engine.{name}" for name in names]
    grok = sorted(path for path in values if path.startswith("grok."))
    return Resolved(
        name=values["name"],
        description=values["description"],
        plan=plan,
        engine=_section(values, "engine"),
        grok=Grok(**_section(values, "grok")),
        compared={
            **{path: values[path] for path in [*grok, *exact]},
            "sweep": _stored_axes(grid),
            "zip": list(zips),
        },
    )


def _stored_axes(grid: Grid) -> dict[str, Any]:
    """Axes by the full paths of what they set."""
    return {"+".join(axis.paths): axis.values for axis in grid.axes}


def _of_arm(flat: Flat, layer: Mapping[str, Any], name: str) -> Flat:
    own = _flatten(_merge({}, layer))
    beside = {path.split(".")[0] for path in own} & {"engine", "grok", "description"}
    if beside:
        raise SettingError(
            f"arms.{name} sets {', '.join(sorted(beside))}, which all runs share."
        )
    return _checked(_arm(flat, layer))


def _checked(flat: Flat) -> Flat:
    """Every value as its leaf holds it, none missing."""
    leaves = _known(flat)
    for path, leaf in leaves.items():
        if leaf.required and path not in flat:
            raise SettingError(f"{path} has no default; give it a value.")
    filled = {
        path: flat.get(path, leaf.default)
        for path, leaf in leaves.items()
        if path in flat or leaf.default is not NOTHING
    }
    return {path: leaves[path].check(path, value) for path, value in filled.items()}


def _experiment(values: Flat) -> Experiment:
    return with_settings(assemble(_makes(values)), values)


def _grid(arms: Mapping[str, Experiment], sweep: Flat, zips: Sequence[str]) -> Grid:
    """The swept axes, whose values hold in every arm that has such a setting."""
    known = {name: leaves_of(own) for name, own in arms.items()}
    leaves: dict[str, Leaf] = {}
    for own in known.values():
        leaves = {**own, **leaves}
    grid = make_grid(leaves, sweep, zips)
    for axis in grid.axes:
        for name, own in known.items():
            if not any(path in own for path in axis.paths):
                raise SettingError(
                    f"The axis {axis.name} sets nothing in arm {name}, where all its "
                    "runs would be the same."
                )
            for i, path in enumerate(axis.paths):
                for point in axis.values if path in own else ():
                    own[path].check(f"sweep.{axis.name}", point[i])
    return grid


def _section(values: Flat, section: str) -> dict[str, Any]:
    """The settings of one section by their short names."""
    prefix = f"{section}."
    own = (path for path in values if path.startswith(prefix))
    return {path.removeprefix(prefix): values[path] for path in own}


# --- the machine ----------------------------------------------------------------------


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
    cores = _cores()
    with contextlib.suppress(RuntimeError):  # where this process has devices already
        jax.config.update("jax_num_cpu_devices", min(wanted or cores, cores))
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


def _merge(
    base: Mapping[str, Any], layer: Mapping[str, Any], keep_none: bool = False
) -> dict[str, Any]:
    """`base` with `layer` on top, in which None takes out; or is kept, for later."""
    out = dict(base)
    for key, value in layer.items():
        if value is None and not keep_none:
            out.pop(key, None)
        elif isinstance(value, Mapping):
            below = out.get(key)
            below = below if isinstance(below, Mapping) else {}
            out[key] = _merge(below, value, keep_none)
        else:
            out[key] = value
    return out


def _merge_layers(base: dict[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """The same of whole configurations, in whose arms None is kept: it takes out what
    all runs have."""
    arms = dict(base.get("arms", {}))
    for name, own in layer.get("arms", {}).items():
        if own is None:
            arms.pop(name, None)
        else:
            arms[name] = _merge(arms.get(name, {}), own, keep_none=True)
    rest = {key: value for key, value in layer.items() if key != "arms"}
    return {**_merge(base, rest), "arms": arms}


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
