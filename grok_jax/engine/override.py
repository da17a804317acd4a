"""Applies settings from the command line, "path=value", to a configuration."""

import ast
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from grok_jax.engine.config import (
    Flat,
    arm_settings,
    leaves_by_path,
    make_config,
    merge,
    split_off,
    with_part,
)
from grok_jax.engine.grid import flatten, nest
from grok_jax.engine.grid import resolve as full_path
from grok_jax.experiment import NAMED
from grok_jax.settings import SettingError, nearest


def apply_overrides(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """Returns `config` with "path=value" settings on top; `config` is not changed.

    A path may be shortened to a unique ending. `sweep.NAME=a,b,c` adds or replaces an
    axis; `zip=a+b` zips axes; `model.name=...` uses the new part's defaults and keeps
    what was set and both parts have; `observe.NAME.every=n` adds an observable. A
    setting applies to every arm; `arms.NAME.path=value` sets it in one arm, and
    `arms=NAME,...` keeps only these arms.

    Raises: SettingError for a setting that is unknown, or swept, since it would change
    nothing.
    """
    nested = config.to_dict()
    sweep, zips, arms = split_off(nested)
    given, axes = flatten(nested), flatten(sweep)
    pairs = [_split(text) for text in overrides]
    alone: list[str] = []
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
            setting, value = _read(arm_settings(given, layer), rest, text)
            arms[name] = merge(layer, nest({setting: value}), keep_none=True)
        else:
            given, arms, setting = _with_setting(given, arms, path, text)
            alone.append(setting)
    _check_not_swept(alone, axes, given)
    return make_config(nest(given), {"sweep": nest(axes), "zip": zips, "arms": arms})


def _check_not_swept(settings: Sequence[str], axes: Flat, given: Flat) -> None:
    leaves = leaves_by_path(given)
    for axis in "+".join(axes).split("+"):
        known = axis in leaves or sum(leaf.endswith(f".{axis}") for leaf in leaves) == 1
        if known and full_path(axis, leaves) in settings:
            raise SettingError(
                f"{axis} is swept here; --config.sweep.{axis}=VALUE (or "
                "VALUE,VALUE,...) gives it other values."
            )


def _rank(path: str) -> tuple[bool, bool]:
    """Sort key: shared settings first, and names before the settings they bring."""
    return path.startswith("arms."), not path.endswith(".name")


def _layer_of(arms: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if name not in arms:
        known = ", ".join(arms) or "none"
        raise SettingError(f"There is no arm {name!r}; known: {known}.")
    return arms[name]


def _with_axis(axes: Flat, axis: str, values: tuple[Any, ...]) -> Flat:
    """The axes with one added, or with the same axis replaced."""
    same = [key for key in axes if _same_axis(key, axis)]
    replaced = {axis if key in same else key: value for key, value in axes.items()}
    return {**replaced, axis: values}


def _same_axis(one: str, other: str) -> bool:
    short = min(one, other, key=len)
    return one == other or max(one, other, key=len).endswith(f".{short}")


def _with_setting(
    given: Flat, arms: dict[str, Any], path: str, text: str
) -> tuple[Flat, dict[str, Any], str]:
    """(shared settings, arms, full path) with one more setting for all runs or, if only
    some arms have such a setting, for those."""
    try:
        setting, value = _read(given, path, text)
    except SettingError:
        new = {}
        for name, layer in arms.items():
            with contextlib.suppress(SettingError):
                found = nest(dict([_read(arm_settings(given, layer), path, text)]))
                new[name] = merge(layer, found, keep_none=True)
        if not new:
            raise
        return given, {**arms, **new}, path
    if setting.endswith(".name") and setting.count(".") == 1:
        given = with_part(given, setting, value)
    cleared = {name: _without(layer, setting) for name, layer in arms.items()}
    return {**given, setting: value}, cleared, setting


def _read(given: Flat, path: str, text: str) -> tuple[str, Any]:
    """(full path, value) of an override, for a known setting or one of a part that
    `path` adds."""
    section = path.split(".")[0]
    adds_part = section in NAMED or section == "transfer"
    leaves = leaves_by_path({**given, path: text} if adds_part else given)
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
    kept = dict(layer)
    if rest and isinstance(kept.get(first), Mapping):
        kept[first] = _without(kept[first], rest)
    elif not rest:
        kept.pop(first, None)
    return kept


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
