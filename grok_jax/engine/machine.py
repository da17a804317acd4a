"""Configures JAX from the `engine` settings and finds the available devices."""

import contextlib
import dataclasses
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from grok_jax.engine import hosts
from grok_jax.engine.planning import Engine
from grok_jax.settings import SettingError, first_line
from grok_jax.types import Device

CACHE = Path("~/.cache/grok_jax/programs").expanduser()
"""Where compiled programs are cached, unless JAX is configured otherwise."""


def set_up_jax(engine: Mapping[str, Any]) -> Engine:
    """Sets precision, platform and devices (on a CPU each core is a device) and returns
    the engine. With several processes (`hosts`), the devices are those of all of them.

    Raises:
      SettingError: the platform is not available, or has fewer devices than asked for.
    """
    jax.config.update("jax_default_matmul_precision", engine["precision"])
    jax.config.update("jax_enable_x64", engine["x64"])
    _set_up_cache(engine["compilation_cache"])
    if engine["platform"]:
        jax.config.update("jax_platforms", engine["platform"].replace("gpu", "cuda"))
    wanted = engine["devices"]
    cores = _cores()
    with contextlib.suppress(RuntimeError):  # if devices are initialised already
        jax.config.update("jax_num_cpu_devices", min(wanted or cores, cores))
    try:
        devices = jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # the latter without any card
        why = first_line(error) if str(error) else "JAX finds no card here."
        raise SettingError(
            f"engine.platform is {engine['platform']}, but this machine has none: {why}"
        ) from error
    if wanted > len(devices):
        raise SettingError(
            f"engine.devices is {wanted}; this machine has {len(devices)}."
        )
    chosen = hosts.devices(wanted or len(devices))
    known = {each.name for each in dataclasses.fields(Engine)}
    own = {name: value for name, value in engine.items() if name in known}
    return Engine(**{**own, "devices": chosen})


def _set_up_cache(wanted: bool) -> None:
    """Sets up the persistent cache of compiled programs, in the folder that JAX was
    given (JAX_COMPILATION_CACHE_DIR) or else in ~/.cache/grok_jax/programs."""
    folder = getattr(jax.config, "jax_compilation_cache_dir", None) or str(CACHE)
    jax.config.update("jax_compilation_cache_dir", folder if wanted else None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def device_text(devices: Sequence[Device]) -> str:
    """The number and kind of the devices: "2 x CPU (x86_64)"."""
    kind = devices[0].device_kind
    if devices[0].platform == "cpu":
        kind = f"CPU ({platform.machine()})"
    return f"{len(devices)} x {kind}"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
