"""What an import loads: who uses one part does not wait for the libraries of others."""

import subprocess
import sys

import pytest

HEAVY = {
    *("jax", "numpy", "flax", "optax", "chex", "diffrax", "equinox", "orbax"),
    *("matplotlib", "xarray", "pandas", "h5py", "h5netcdf", "scipy", "tensorstore"),
    *("absl", "ml_collections", "rich", "yaml", "markdown_it", "upath", "fsspec"),
    *("tensorboardX", "wandb", "zarr", "pooch", "safetensors", "torch"),
}
LIGHT = """
import sys
before = set(sys.modules)
{line}
print(*{{name.partition(".")[0] for name in set(sys.modules) - before}})
"""
OPTIMISERS = {"jax", "numpy", "optax", "absl", "chex"}  # the last two are optax's own


def loaded(line):
    """The heavy libraries that a line of Python loads in a fresh interpreter."""
    ended = [sys.executable, "-c", LIGHT.format(line=line)]
    return HEAVY & set(subprocess.check_output(ended, text=True).split())


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("import grok_jax", set()),
        ("import grok_jax; dir(grok_jax)", set()),
        ("import grok_jax.cli", set()),
        ("from grok_jax.engine import shipped; shipped.pages()", set()),
        ("from grok_jax import alignment, spectra", {"jax", "numpy"}),
        ("from grok_jax.models import mlp, transformer", {"jax", "numpy"}),
        ("from grok_jax import tasks, rng, tree", {"jax", "numpy"}),
        ("from grok_jax import sweep", {"jax", "numpy"}),
        ("from grok_jax import measures", {"jax", "numpy", "scipy"}),
        ("from grok_jax.theory import committee", {"jax", "numpy"}),
        ("from grok_jax import losses, optim, train, transfer", OPTIMISERS),
        ("from grok_jax import ntk, snapshots", {*OPTIMISERS, "scipy"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_import_loads_no_more_than_it_needs(line, allowed):
    assert loaded(line) <= allowed


def test_no_command_line_but_the_launcher_loads_what_draws_and_saves():
    found = loaded("from grok_jax import report, watch")
    assert not found & {"matplotlib", "orbax", "tensorstore", "diffrax", "flax"}
