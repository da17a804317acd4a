"""Runs a sweep from Python: for notebooks and for the launcher.

results = grok_jax.run(config)                 in memory
results = grok_jax.run(config, "runs/mine")    saved on the way; called again, resumes
"""

import contextlib
import importlib.metadata
import inspect
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import xarray as xr
from rich.console import Console

from grok_jax import __version__
from grok_jax.engine import config as config_lib
from grok_jax.engine import (
    extend,
    hosts,
    live,
    machine,
    planning,
    programs,
    registry,
    runner,
    shipped,
    states,
    workdirs,
)
from grok_jax.engine import watch as watch_lib
from grok_jax.settings import SettingError

Config = config_lib.ConfigDict | Mapping[str, Any]
"""What `config.make_config` returns or takes."""


def run(
    config: Config | Callable[[], Config] | str,
    workdir: str | Path | None = None,
    *,
    say: Callable[[str], None] | None = None,
) -> xr.Dataset:
    """Runs a whole sweep; its results have the swept axes and `step` as dimensions.

    It uses the launcher's engine. With a `workdir`, results, configuration and
    checkpoints are stored there: the same call resumes where the last one ended, or
    only reads complete results; a call with more values of an axis or more steps runs
    only what is new (`extend`). The launcher and `report` accept the folder too. Claims
    and figures belong to pages and are not made here. JAX's precision settings are
    those of `config.engine` during the call and are restored afterwards.

    Args:
      config: what `config.make_config` returns, the nested settings that it takes, a
        function that returns either, or a page: "FILE.py[:PRESET]", "FILE.yaml", or
        "NAME[:PRESET]" of one that comes with the package.
      say: called with a progress line every 15 seconds; by default, a progress bar in a
        terminal or notebook, and printed lines elsewhere.

    Raises:
      SettingError: a setting is unknown, out of range or conflicts with another; with a
        workdir, also a part without a name by which it can be found again.
      WorkdirError: the folder holds another sweep or cannot be written.

    >>> settings = dict(train=dict(steps=4, records=2), sweep=dict(seed=(0, 1)))
    >>> results = run(settings, say=lambda line: None)
    >>> dict(results.train_loss.sizes)
    {'seed': 2, 'step': 3}
    """
    resolved = config_lib.resolve(_as_config(config))
    with _restoring_flags():
        engine = machine.set_up_jax(resolved.engine)
        if workdir is None:
            programs.check_data(resolved.plan)
            with _watch(None, say) as watch:
                results = _sweeper(resolved, engine, watch, resolved.plan).run()
            results.attrs["name"] = resolved.name
            with contextlib.suppress(SettingError):  # a part that has no name
                results.attrs["config"] = json.dumps(resolved.stored)
            return results
        place = workdirs.Workdir(workdir)
        more = prepare(place, resolved)
        results = None if more else complete(place, say or print)
        if results is not None:
            return results
        programs.check_data(resolved.plan)
        place.create()
        about = about_run(resolved, engine, f"grok_jax.run(..., {str(workdir)!r})")
        with place.locked(say or print), _watch(place, say) as watch:
            begin(place, about)
            # before the lock, another call may have ended
            more = prepare(place, resolved)
            results = None if more else complete(place, say or print)
            if results is not None:
                return results
            return sweep(resolved, engine, place, about, watch, more=more)


def _watch(
    workdir: workdirs.Workdir | None, say: Callable[[str], None] | None
) -> contextlib.closing[watch_lib.Watch]:
    bar = watch_lib.bar(Console()) if say is None else None
    return contextlib.closing(watch_lib.Watch(workdir, say or print, bar))


def prepare(
    workdir: workdirs.Workdir, resolved: config_lib.Resolved
) -> extend.Extension | None:
    """The extension to run if the workdir holds a finished sweep that this one extends,
    else None.

    Raises: workdirs.WorkdirError if it holds anything else but this sweep.
    """
    more = extend.find(workdir, resolved)
    if more is None:
        workdir.check(resolved.stored)
    return more


def begin(workdir: workdirs.Workdir, about: Mapping[str, Any]) -> None:
    """Writes config.json in a locked workdir that has none, before anything else."""
    if not workdir.config.exists():
        workdirs.write_json(workdir.config, about)


def sweep(
    resolved: config_lib.Resolved,
    engine: planning.Engine,
    workdir: workdirs.Workdir,
    about: Mapping[str, Any],
    watch: watch_lib.Watch,
    stop_requested: Callable[[], bool] = lambda: False,
    more: extend.Extension | None = None,
) -> xr.Dataset:
    """Runs or resumes a sweep that has begun (`begin`), writes and returns the results;
    with several processes, only in the first. `more` is the extension to run, if any.

    Raises: runner.Interrupted, after saving, once `stop_requested` returns true.
    """
    folder = workdir.checkpoints / more.name if more else workdir.checkpoints
    plan = more.plan if more else resolved.plan
    sweeper = _sweeper(
        resolved,
        engine,
        watch,
        plan,
        folder=folder,
        stop_requested=stop_requested,
        states=states.States(workdir.states, 1e9 * resolved.engine["keep_gb"]),
    )
    try:
        results = sweeper.run()
    finally:
        watch.close()
    if not hosts.is_writer():
        return results
    stored = workdirs.read_json(workdir.config)
    if more:
        results = resolved.grok.judged(more.merged(results))
        stored = {**stored, "config": about["config"], "command": about["command"]}
        _forget_claims(workdir)
    results.attrs |= {
        "name": resolved.name,
        "config": json.dumps(stored["config"]),
        "command": stored["command"],
        "device": stored["device"],
        "grok_jax": stored["versions"]["grok_jax"],
    }
    workdirs.write_results(workdir.results, results)
    if more:
        workdirs.write_json(workdir.config, stored)
    live.remove(workdir)
    return results


def _forget_claims(workdir: workdirs.Workdir) -> None:
    """Removes the claims and figures of results that are about to be replaced."""
    for path in (workdir.claims, *workdir.figures.glob("*.png")):
        workdirs.remove(path)


def _sweeper(
    resolved: config_lib.Resolved,
    engine: planning.Engine,
    watch: watch_lib.Watch,
    plan: programs.Plan,
    **more: Any,
) -> runner.Sweeper:
    watch.follow(plan)
    return runner.Sweeper(
        plan,
        engine,
        grok=resolved.grok,
        say=watch.say,
        progress=watch.show,
        seen=watch.records if hosts.is_writer() else None,
        **more,
    )


def complete(
    workdir: workdirs.Workdir, say: Callable[[str], None]
) -> xr.Dataset | None:
    """The results of a complete sweep; None if something is left to do."""
    if not workdir.results.exists():
        return None
    try:
        return workdirs.read_results(workdir.results)
    except workdirs.WorkdirError as error:
        say(f"{error} It is rebuilt from the newest checkpoint.")
        return None


def about_run(
    resolved: config_lib.Resolved,
    engine: planning.Engine,
    command: str,
    preset: str = "",
) -> dict[str, Any]:
    """The content of config.json."""
    packages = ("jax", "jaxlib", "optax", "orbax-checkpoint", "numpy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {
        "name": resolved.name,
        "description": resolved.description,
        "preset": preset,
        "config": resolved.stored,
        "engine": resolved.engine,
        "command": command,
        "versions": {"grok_jax": __version__, **versions},
        "device": machine.device_text(engine.devices),
        "precision": {
            "matmul": resolved.engine["precision"],
            "float": 64 if resolved.engine["x64"] else 32,
        },
        "git_commit": workdirs.git_commit(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def load_page(spec: str) -> tuple[ModuleType, str | None]:
    """(module, preset or None) of a page: "FILE.py[:PRESET]", "NAME[:PRESET]" of one
    that comes with the package, or "FILE.yaml" with the settings alone.

    Raises: SettingError if there is no such page or it cannot be loaded.
    """
    path, preset = shipped.find(spec)
    if not path.is_file():
        raise SettingError(f"There is no config file {path}.")
    if path.suffix in (".yaml", ".yml"):
        return _page_of(path, workdirs.read_yaml(path)), preset
    if path.suffix != ".py":
        raise SettingError(f"{path} is not a Python or YAML file.")
    try:
        return registry.load_file(path), preset
    except (SyntaxError, ImportError) as error:
        raise SettingError(f"{path} cannot be loaded: {error}.") from error


def _page_of(path: Path, settings: Any) -> ModuleType:
    """A page of these settings, without claims or figures of its own."""
    if not isinstance(settings, dict):
        raise SettingError(
            f"{path} holds no settings; write sections such as task: and sweep:."
        )
    page = ModuleType(path.stem)
    page.__file__ = str(path)
    vars(page)["get_config"] = lambda: config_lib.make_config(
        {"name": path.stem, **settings}
    )
    return page


def get_config(page: ModuleType, preset: str | None) -> config_lib.ConfigDict:
    """The configuration of a page for a preset (None: its default).

    Raises: SettingError if the page takes no preset or returns no settings.
    """
    if preset and not inspect.signature(page.get_config).parameters:
        raise SettingError(
            f"{page.__file__} has no preset {preset!r}: its get_config() takes none."
        )
    found = page.get_config(preset) if preset else page.get_config()
    if not isinstance(found, (config_lib.ConfigDict, Mapping)):
        raise SettingError(
            f"get_config() of {page.__file__} returns {type(found).__name__}; it must "
            "return settings."
        )
    return _as_config(found)


def _as_config(
    config: Config | Callable[[], Config] | str,
) -> config_lib.ConfigDict:
    if isinstance(config, str):
        return get_config(*load_page(config))
    if callable(config):
        config = config()
    return (
        config
        if isinstance(config, config_lib.ConfigDict)
        else config_lib.make_config(config)
    )


_FLAGS = (
    "jax_default_matmul_precision",
    "jax_enable_x64",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
)


@contextlib.contextmanager
def _restoring_flags() -> Iterator[None]:
    """Restores the JAX settings that a sweep changes."""
    before = {name: getattr(jax.config, name) for name in _FLAGS}
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
