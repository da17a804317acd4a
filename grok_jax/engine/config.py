"""Makes and validates configurations: defaults, presets, overrides, arms, swept axes.

A configuration has the sections task, model, loss, optimizer and stop (each with the
part's settings and a `name`: a registered name or the part itself); train, seeds,
reference, grok and engine; wrap, gradient and observe, each with any number of named
parts; transfer, with its own model and optimizer, if a weak network is trained first;
`sweep` (axis -> values) with `zip`; and `arms` (name -> the settings in which that arm
differs). Every default and range is declared in the signature of the part it belongs
to.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ml_collections import ConfigDict

from grok_jax.engine import registry
from grok_jax.engine.grid import Axis, Grid, flatten, make_grid, nest
from grok_jax.engine.measured import Grok
from grok_jax.engine.programs import Plan, named_settings
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


def _top(*, name: str = "", description: str = "") -> None: ...


SHARED = {"": _top, "engine": _engine, "grok": Grok}
"""Sections that all runs share."""
Flat = dict[str, Any]
"""path ("model.width") -> value"""


# --- construction ---------------------------------------------------------------------


def make_config(*layers: Mapping[str, Any]) -> ConfigDict:
    """Makes a configuration from nested settings. Later layers win, defaults fill the
    rest, and None removes a setting of an earlier layer. In the first layer, a named
    part that is None (`norms:` in YAML) has its defaults, like `norms={}`.

    Raises:
      SettingError: a key that no part knows, with the nearest known keys; a section
        that is no mapping; a setting without a value in the first layer.
    """
    first, *later = layers or ({},)
    first = _with_empty_parts(first)
    merged = _merge_layers({}, first)
    for layer in later:
        merged = _merge_layers(merged, layer)
    sweep, zips, arms = split_off(merged)
    given = flatten(_marked(merged))
    leaves = _known(given)
    _refuse_empty(first, leaves)
    values = _filled(leaves, given)
    for layer in arms.values():
        _known(arm_settings(values, layer))
    axes = {axis: _as_tuple(values) for axis, values in flatten(sweep).items()}
    nested = {**nest(values), "sweep": nest(axes), "arms": arms, "zip": tuple(zips)}
    return _as_config_dict(nested)


def _as_config_dict(nested: Mapping[str, Any]) -> ConfigDict:
    """A ConfigDict that keeps the given order of keys at every level."""
    config = ConfigDict(sort_keys=False, allow_dotted_keys=True)  # for names of arms
    for key, value in nested.items():
        config[key] = _as_config_dict(value) if isinstance(value, Mapping) else value
    return config


def logspace(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` values from `low` to `high`, evenly spaced on a log scale, for a swept
    axis; rounded to four digits for readability.

    >>> logspace(0.1, 10, 3)
    (0.1, 1.0, 10.0)
    """
    return tuple(float(f"{v:.4g}") for v in np.geomspace(low, high, count))


def choose_preset(preset: str, **presets: Mapping[str, Any]) -> Mapping[str, Any]:
    """The layer of a preset; an unknown one raises SettingError with the known ones."""
    if preset not in presets:
        raise SettingError(
            f"There is no preset {preset!r}; known: {', '.join(presets)}."
        )
    return presets[preset]


def split_off(nested: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """Removes (sweep, zip, arms) from nested settings and returns them."""
    arms = dict(_mapping("arms", nested.pop("arms", {})))
    zips = nested.pop("zip", ())
    zips = (zips,) if isinstance(zips, str) else zips
    return _mapping("sweep", nested.pop("sweep", {})), zips, arms


def _mapping(path: str, value: Any) -> Mapping[str, Any]:
    """The value of a section; raises SettingError if it is no mapping."""
    if isinstance(value, Mapping):
        return value
    raise SettingError(
        f"{path} is {value!r}; write names with their settings, name: {{...}}."
    )


def _with_empty_parts(layer: Mapping[str, Any]) -> dict[str, Any]:
    """A layer in which a named part that is None is at its defaults."""
    filled = dict(layer)
    for section in NAMED:
        parts = layer.get(section)
        if isinstance(parts, Mapping):
            filled[section] = {k: {} if p is None else p for k, p in parts.items()}
    return filled


def _refuse_empty(first: Mapping[str, Any], leaves: Mapping[str, Leaf]) -> None:
    """Raises SettingError if a setting of the first layer is None: there is nothing
    that it could remove, and `steps:40` in YAML is a name without a value."""
    settings = {name: part for name, part in first.items() if name != "arms"}
    for path, value in flatten(settings).items():
        is_section = path in (*NAMED, "arms", "sweep", "zip", "transfer") or any(
            leaf.startswith(f"{path}.") for leaf in leaves
        )
        if value is not None or is_section:
            continue
        if path.startswith("sweep."):
            axis = path.removeprefix("sweep.")
            raise SettingError(f"The swept axis {axis} is empty; give it a value.")
        _known({path: value})
        raise SettingError(f"{path} has no value.")


def _marked(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings in which a part at its defaults, `norms={}`, keeps an entry."""
    marked = dict(nested)
    for section in NAMED:
        if section in nested:
            marked[section] = {
                key: {"name": key, **_mapping(f"{section}.{key}", part)}
                for key, part in _mapping(section, nested[section]).items()
            }
    if "transfer" in nested:
        transfer = _mapping("transfer", nested["transfer"])
        marked["transfer"] = {"source": "weak", **transfer}
    return marked


def arm_settings(base: Flat, layer: Mapping[str, Any]) -> Flat:
    """The settings of an arm: `layer` on top of those of all runs. A part that replaces
    another has its own defaults and keeps what was set and both parts have."""
    kept = {path: value for path, value in base.items() if not _is_removed(path, layer)}
    new = flatten(_marked(merge({}, layer)))
    for path in sorted(new, key=lambda path: not path.endswith(".name")):
        renames = path.endswith(".name") and kept.get(path, new[path]) != new[path]
        kept = with_part(kept, path, new[path]) if renames else kept
        kept[path] = new[path]
    return kept


def _is_removed(path: str, layer: Mapping[str, Any]) -> bool:
    at: Any = layer
    for key in path.split("."):
        if not isinstance(at, Mapping) or key not in at:
            return False
        at = at[key]
        if at is None:
            return True
    return False


def with_part(given: Flat, path: str, name: Any) -> Flat:
    """The settings with the part at `path` ("model.name") replaced by `name`."""
    section, leaves = path.removesuffix("name"), leaves_by_path(given)
    kept = {
        key: value
        for key, value in given.items()
        if not key.startswith(section) or value != leaves[key].default
    }
    known = leaves_by_path({**kept, path: name})  # raises if there is no such part
    return {key: kept.get(key, name) for key in [*kept, path] if key in known}


# --- known settings -------------------------------------------------------------------


def _makes(given: Flat) -> dict[str, Any]:
    """section -> the callable chosen by its `name`."""
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
    """(section, key) of the named parts in wrap, gradient and observe, in order."""
    pairs = (path.split(".")[:2] for path in given if path.count(".") > 1)
    named = [(first, key) for first, key in pairs if first in NAMED]
    return list(dict.fromkeys(named))


def leaves_by_path(given: Flat) -> dict[str, Leaf]:
    """path -> leaf, for every setting of a configuration with the parts in `given`."""
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
    """The leaves of `given`; raises SettingError for an unknown setting."""
    leaves = leaves_by_path(given)
    for path in given:
        if path not in leaves:
            known = nearest(path, leaves)
            if any(leaf.startswith(f"{path}.") for leaf in leaves):
                known = "it is a section of settings"
            raise SettingError(f"There is no setting {path!r}; {known}.")
    return leaves


# --- resolution -----------------------------------------------------------------------


@dataclass(frozen=True)
class Resolved:
    """A validated configuration, ready to run."""

    name: str
    description: str
    plan: Plan
    engine: dict[str, Any]
    grok: Grok
    compared: dict[str, Any]
    """The settings outside the plan that can change a number."""

    @property
    def stored(self) -> dict[str, Any]:
        """The contents of config.json, with which a second launch is compared. Of arms,
        these are the common settings and, under "arms", those in which each differs.
        How to run (the rest of `engine`) may differ between launches.

        Raises: SettingError if a part, or a callable in a setting, has no name.
        """
        arms = self.plan.arms or {"": self.plan.experiment}
        each = {
            name: named_settings(arm, registry.name_of) for name, arm in arms.items()
        }
        first = next(iter(each.values()))
        common = {
            path: value
            for path, value in first.items()
            if all(path in flat and flat[path] == value for flat in each.values())
        }
        different = {
            name: {path: v for path, v in flat.items() if path not in common}
            for name, flat in each.items()
        }
        whole = {
            "name": self.name,
            "description": self.description,
            **common,
            **({"arms": different} if self.plan.arms else {}),
            **self.compared,
        }
        return {path: registry.as_json(path, value) for path, value in whole.items()}


def resolve(config: ConfigDict) -> Resolved:
    """Validates a configuration: every value, every axis and every arm.

    Raises:
      SettingError: with one sentence, before anything is computed.
    """
    nested = config.to_dict()
    sweep, zips, arms = split_off(nested)
    flat = flatten(_marked(nested))
    checked = {name: _of_arm(flat, arm, name) for name, arm in arms.items()}
    checked = checked or {"": _checked(flat)}
    values = next(iter(checked.values()))
    experiments = {name: _experiment(settings) for name, settings in checked.items()}
    grid = _grid(experiments, flatten(sweep), zips)
    if arms:
        names = tuple((name,) for name in experiments)
        grid = Grid((Axis("arm", ("arm",), names), *grid.axes))
    first = next(iter(experiments.values()))
    plan = Plan(first, grid, experiments if arms else {})
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
    """The values of each axis, by the full paths of the settings that it sets."""
    return {"+".join(axis.paths): axis.values for axis in grid.axes}


def _of_arm(flat: Flat, layer: Mapping[str, Any], name: str) -> Flat:
    new = flatten(merge({}, layer))
    shared = {path.split(".")[0] for path in new} & {"engine", "grok", "description"}
    if shared:
        raise SettingError(
            f"arms.{name} sets {', '.join(sorted(shared))}, which all runs share."
        )
    return _checked(arm_settings(flat, layer))


def _checked(flat: Flat) -> Flat:
    """All settings with their defaults, each value checked by its leaf."""
    leaves = _known(flat)
    for path, leaf in leaves.items():
        if leaf.required and path not in flat:
            raise SettingError(f"{path} has no default; give it a value.")
    filled = _filled(leaves, flat)
    return {path: leaves[path].check(path, value) for path, value in filled.items()}


def _filled(leaves: Mapping[str, Leaf], given: Flat) -> Flat:
    """The given settings and, where none is given, the defaults."""
    return {
        path: given.get(path, leaf.default)
        for path, leaf in leaves.items()
        if path in given or leaf.default is not NOTHING
    }


def _experiment(values: Flat) -> Experiment:
    return with_settings(assemble(_makes(values)), values)


def _grid(arms: Mapping[str, Experiment], sweep: Flat, zips: Sequence[str]) -> Grid:
    """The grid of the swept axes, checked in every arm that has such a setting."""
    by_arm = {name: leaves_of(arm) for name, arm in arms.items()}
    leaves: dict[str, Leaf] = {}
    for known in by_arm.values():
        leaves = {**known, **leaves}
    for name in sweep:
        if name.endswith(".name"):
            raise SettingError(f"{name} cannot be swept; compare parts as arms.")
        if name.partition(".")[0] in SHARED:
            raise SettingError(f"{name} is the same for all runs of a sweep.")
    grid = make_grid(leaves, sweep, zips)
    for axis in grid.axes:
        for name, known in by_arm.items():
            if not any(path in known for path in axis.paths):
                raise SettingError(
                    f"The axis {axis.name} sets nothing in arm {name}, where all its "
                    "runs would be the same."
                )
            for i, path in enumerate(axis.paths):
                for point in axis.values if path in known else ():
                    known[path].check(f"sweep.{axis.name}", point[i])
    return grid


def _section(values: Flat, section: str) -> dict[str, Any]:
    """The settings of one section, by their short names."""
    prefix = f"{section}."
    paths = (path for path in values if path.startswith(prefix))
    return {path.removeprefix(prefix): values[path] for path in paths}


# --- merging --------------------------------------------------------------------------


def _as_tuple(values: Any) -> tuple[Any, ...]:
    """The values of an axis: of a sequence, a range or an array, or the one value."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return tuple(values.tolist())
    return tuple(values) if isinstance(values, (list, tuple, range)) else (values,)


def merge(
    base: Mapping[str, Any], layer: Mapping[str, Any], keep_none: bool = False
) -> dict[str, Any]:
    """`base` with `layer` on top; None removes a setting, or is kept if `keep_none`."""
    out = dict(base)
    for key, value in layer.items():
        if value is None and not keep_none:
            out.pop(key, None)
        elif isinstance(value, Mapping):
            below = out.get(key)
            below = below if isinstance(below, Mapping) else {}
            out[key] = merge(below, value, keep_none)
        else:
            out[key] = value
    return out


def _merge_layers(base: dict[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """`merge` for whole configurations. In arms None is kept: it removes a setting that
    all runs have."""
    arms = dict(base.get("arms", {}))
    for name, arm in _mapping("arms", layer.get("arms") or {}).items():
        if arm is None:
            arms.pop(name, None)
        else:
            arm = _mapping(f"arms.{name}", arm)
            arms[name] = merge(arms.get(name, {}), arm, keep_none=True)
    rest = {key: value for key, value in layer.items() if key != "arms"}
    return {**merge(base, rest), "arms": arms}
