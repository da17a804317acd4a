"""Kernels in a zarr store: those in memory, whatever the blocks and however stopped."""

import ast
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest

from grok_jax import ntk
from grok_jax.ntk import store

PARAMS = {"w": np.random.default_rng(0).standard_normal((3, 6)), "v": np.ones((6, 2))}
X = np.random.default_rng(1).standard_normal((11, 3))


pytestmark = pytest.mark.usefixtures("float64")


def network(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


@pytest.mark.parametrize("kind", ["trace", "diagonal", "full", "pseudo"])
@pytest.mark.parametrize("block_size", [None, 1, 4, 11, 50])
def test_a_stored_kernel_is_the_one_in_memory(tmp_path, kind, block_size):
    stored = store.store_ntk(
        tmp_path / "k", network, PARAMS, X, kind=kind, block_size=block_size
    )
    expected = ntk.empirical_ntk(network, PARAMS, X, kind=kind)
    np.testing.assert_allclose(stored[:], expected, rtol=1e-12, atol=1e-13)
    if kind == "trace":
        assert (stored[:] == stored[:].T).all()


@pytest.mark.parametrize("rows", [(2, 11), (11, 2)])
def test_of_two_sets_of_inputs(tmp_path, rows):
    first, second = X[: rows[0]], X[: rows[1]] + 1
    stored = ntk.store_ntk(tmp_path, network, PARAMS, first, second, block_size=3)
    expected = ntk.empirical_ntk(network, PARAMS, first, second)
    np.testing.assert_allclose(stored[:], expected, rtol=1e-12)


def test_a_function_without_parameters_has_zeros(tmp_path):
    stored = ntk.store_ntk(tmp_path, lambda p, x: x[:, 0], PARAMS, X, block_size=4)
    assert (stored[:] == 0).all()


KILLED = """
import os, signal, sys
sys.path.insert(0, {here!r})
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)
import test_ntk_store as here
compute = here.store._compute
def some(*args):
    for count, block in enumerate(compute(*args)):
        if count == {blocks}:
            os.kill(os.getpid(), signal.SIGKILL)
        yield block
here.store._compute = some
here.ntk.store_ntk({path!r}, here.network, here.PARAMS, here.X, block_size=3)
"""


def test_a_killed_call_goes_on_with_the_blocks_that_are_left(tmp_path, monkeypatch):
    """Killed by the system after 3, then after 4 more of 10 blocks."""
    for blocks in (3, 4):
        script = KILLED.format(
            here=str(Path(__file__).parent), path=str(tmp_path), blocks=blocks
        )
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True)
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    left = []
    compute = store._compute

    def watched(*args):
        left.extend(args[4])
        return compute(*args)

    monkeypatch.setattr(store, "_compute", watched)
    kernel = ntk.store_ntk(tmp_path, network, PARAMS, X, block_size=3)
    assert left == [(2, 2), (2, 3), (3, 3)]
    expected = ntk.empirical_ntk(network, PARAMS, X)
    np.testing.assert_allclose(kernel[:], expected, rtol=1e-12)
    again = ntk.store_ntk(tmp_path, network, PARAMS, X, block_size=3)
    assert left == [(2, 2), (2, 3), (3, 3)] and (again[:] == kernel[:]).all()


PROCESS = """
import sys
sys.path.insert(0, {here!r})
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)
jax.distributed.initialize("127.0.0.1:{port}", 2, {number})
import test_ntk_store as here
own = []
compute = here.store._compute
here.store._compute = lambda *args: (own.extend(args[4]), compute(*args))[1]
kernel = here.ntk.store_ntk({path!r}, here.network, here.PARAMS, here.X, block_size=3)
assert not here.np.isnan(kernel[:]).any()
print(own)
"""


def test_two_processes_share_the_blocks_and_see_the_whole_kernel(tmp_path):
    here, port = str(Path(__file__).parent), processes.free_port()
    started = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                PROCESS.format(here=here, path=str(tmp_path), port=port, number=number),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    ended = [process.communicate(timeout=300) for process in started]
    assert [p.returncode for p in started] == [0, 0], ended
    shares = [ast.literal_eval(out.splitlines()[-1]) for out, _ in ended]
    every = [(i, j) for i in range(4) for j in range(i, 4)]
    assert shares == [every[::2], every[1::2]]
    kernel = ntk.store_ntk(tmp_path, network, PARAMS, X, block_size=3)
    expected = ntk.empirical_ntk(network, PARAMS, X)
    np.testing.assert_allclose(kernel[:], expected, rtol=1e-12)


def test_what_another_process_finishes_meanwhile_shifts_no_share(tmp_path, monkeypatch):
    """Shares are of what was done when all had opened the store: a faster process
    marks its first block as done before this one begins."""
    import zarr

    asked, places = [], []
    compute = store._compute

    def meet(place):
        places.append(place)
        if place == "shared out":
            zarr.open_group(tmp_path)["done"][0, 0] = True

    monkeypatch.setattr(store, "_meet", meet)
    monkeypatch.setattr(
        store, "_compute", lambda *args: (asked.extend(args[4]), compute(*args))[1]
    )
    ntk.store_ntk(tmp_path, network, PARAMS, X, block_size=6)
    assert asked == [(0, 0), (0, 1), (1, 1)]
    assert places == ["opened", "shared out", "done"]


def test_int_and_float_inputs_are_promoted_as_in_memory(tmp_path):
    whole = np.arange(12).reshape(4, 3)
    stored = ntk.store_ntk(tmp_path, network, PARAMS, whole, X, block_size=3)
    expected = ntk.empirical_ntk(network, PARAMS, whole, X)
    np.testing.assert_allclose(stored[:], expected, rtol=1e-12)


def test_every_device_has_its_share(tmp_path, monkeypatch):
    """Blocks are computed on both devices of the tests, in turns."""
    used = []
    put = jax.device_put

    def watched(value, device=None, **settings):
        if isinstance(value, np.ndarray):
            used.append(device)
        return put(value, device, **settings)

    monkeypatch.setattr(store.jax, "device_put", watched)
    ntk.store_ntk(tmp_path, network, PARAMS, X, block_size=6)
    assert set(used) == set(jax.local_devices())


def test_blocks_are_sized_by_memory(tmp_path):
    """What XLA needs for two blocks of factors and one of the kernel fits."""
    small = ntk.store_ntk(tmp_path / "a", network, PARAMS, X, memory_budget=4000)
    assert small.chunks[0] < len(X)
    large = ntk.store_ntk(tmp_path / "b", network, PARAMS, X)
    assert large.chunks == (11, 11)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(kind="pseudo"), "holds another kernel .it differs in: kind."),
        (dict(block_size=5), "differs in: rows"),
        (dict(x2=X), "differs in: of, symmetric"),
        (dict(params={**PARAMS, "v": np.zeros((6, 2))}), "differs in: of"),
        (dict(kind="none"), "Unknown kind 'none'"),
        (dict(block_size=-1), "block_size must be 1 or more; got -1"),
        (dict(x1=X[:0]), "x1 must have at least one row"),
        (dict(x2=X[:0]), "x2 must have at least one row"),
        (dict(x2=X[:, :2]), "The rows of x1 and x2 must have one shape"),
    ],
)
def test_another_kernel_in_the_folder_is_refused(tmp_path, change, sentence):
    call = dict(apply_fn=network, params=PARAMS, x1=X, block_size=4)
    ntk.store_ntk(tmp_path, **call)
    with pytest.raises(ValueError, match=sentence):
        ntk.store_ntk(tmp_path, **{**call, **change})


def test_without_zarr_one_sentence_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r"pip install 'grok_jax\[zarr\]'"):
        ntk.store_ntk(tmp_path, network, PARAMS, X)
