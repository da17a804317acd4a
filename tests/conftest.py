"""One setup for every test: two CPU devices, strict shapes, full precision.

The fixtures below are functions, so that a test says in one line which run it means.
"""

import atexit
import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile

QUICK = ("xla_cpu_use_fusion_emitters=false", "xla_cpu_parallel_codegen_split_count=1")
"""Flags of XLA by which a program compiles in a third less time: its loops apart, and
in one module."""


def _known(flag: str) -> bool:
    """Whether this XLA knows a flag: it ends a process at one that it does not."""
    line = [
        sys.executable,
        "-c",
        "from jaxlib import xla_client as x; x.CompileOptions()",
    ]
    given = {**os.environ, "XLA_FLAGS": f"--{flag}"}
    return not subprocess.run(line, env=given, capture_output=True).returncode


# A program that a test compiled before, here or in another process of this session, is
# read back: the sweeps of the tests repeat a few programs, and compiling is most of
# their time. Launchers that tests start find it too.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.mkdtemp(prefix="grok_jax_tests_")
    atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    own = [os.environ.get("XLA_FLAGS", "")]
    own += [f"--{flag}" for flag in QUICK if _known(flag)]
    os.environ["XLA_FLAGS"] = " ".join(own)

import jax  # noqa: E402

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")
BITS = jax.config.jax_enable_x64

assert len(jax.local_devices()) == 2  # and from here on they are what they are

import matplotlib  # noqa: E402

matplotlib.use("Agg")

import jax.monitoring  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from grok_jax import experiment, sweep, train  # noqa: E402
from grok_jax.engine import config, planning, programs, runner  # noqa: E402

logging.getLogger("orbax").setLevel(logging.ERROR)
logging.getLogger("absl").setLevel(logging.ERROR)

TINY = dict(
    task=dict(input_dim=6, train_size=14, test_size=9),
    model=dict(width=7),
    optimizer=dict(rule="lazy"),
    train=dict(steps=24, records=6),
)
"""A run of milliseconds; every test that runs one says only what it changes."""

_COMPILED: list[str] = []


def _note(event, duration, **about):
    del duration
    if event == "/jax/core/compile/backend_compile_duration":
        _COMPILED.append(about.get("fun_name", ""))


jax.monitoring.register_event_duration_secs_listener(_note)


_compiler_options = sweep.compiler_options
_as_users_do = False


def compiler_options(devices, deterministic=True):
    """Those of `sweep.compiler_options`, which QUICK does not reach where a test is to
    compile as users do."""
    own = _compiler_options(devices, deterministic)
    if not _as_users_do or devices[0].platform != "cpu":
        return own
    return {**(own or {}), "xla_cpu_use_fusion_emitters": True}


sweep.compiler_options = compiler_options


TRAINS = {"run_sweep", "run_alone", "compilations"}
COMPILES = """
batching benchmark committee committee_flow conformance docs experiments extend flow
gallery hosts interoperability launch live look_up losses lstm measures modular ntk
ntk_networks ntk_rules ntk_statistics ntk_store observables_xor optim outside planning
readme resume session targets train transfer transformer variants watch
evidence cause foretell
"""
"""Fixtures and modules that mostly wait for XLA: no part of the fast tier."""


def pytest_collection_modifyitems(items):
    """Marks the rest as `fast`."""
    slow = {f"test_{name}" for name in COMPILES.split()}
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        waits = TRAINS & set(getattr(item, "fixturenames", ()))
        others = marks & {"slow", "optimised", "target"}
        if not (waits or others or item.path.stem in slow):
            item.add_marker("fast")


def pytest_addoption(parser):
    parser.addoption(
        "--optimised",
        action="store_true",
        help="compile as users do for all tests that are marked so, as .ci/run does",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Most of a test's time is compilation, so that little is optimised, but in tests
    that are marked `optimised`: those that compare bits of different programs, or look
    at what was compiled; with `always=False` only if --optimised asks for it. QUICK
    holds there for what is no sweep, and for all where launchers of a test's own are
    compared with (`loops=False`)."""
    global _as_users_do
    mark = item.get_closest_marker("optimised")
    asked = item.config.getoption("--optimised")
    if mark and not (asked or mark.kwargs.get("always", True)):
        mark = None
    quick = mark is None
    as_users_do = (
        mark is not None
        and mark.kwargs.get("loops", True)
        and QUICK[0] in os.environ["XLA_FLAGS"]
    )
    now = jax.config.read("jax_disable_most_optimizations"), _as_users_do
    if (quick, as_users_do) != now:
        jax.config.update("jax_disable_most_optimizations", quick)
        _as_users_do = as_users_do
        jax.clear_caches()  # programs compiled another way are not to be found


@pytest.fixture(autouse=True)
def same_bits():
    """After a test that calls the launcher, which sets JAX up for its whole process,
    numbers have the bits again that the session began with."""
    yield
    if jax.config.jax_enable_x64 != BITS:
        jax.config.update("jax_enable_x64", BITS)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def as_written(float64):
    """In float64, and networks written as people write them: `x @ w + b`."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="session")
def compilations():
    """`with compilations() as names:` the programs that XLA compiled meanwhile, with
    nothing in JAX's caches at the start."""

    @contextlib.contextmanager
    def watch():
        jax.clear_caches()
        names, before = [], len(_COMPILED)
        yield names
        names.extend(_COMPILED[before:])

    return watch


@pytest.fixture(scope="session")
def resolved():
    """resolved(layer, ...) -> the checked configuration of TINY under these layers."""

    def resolve(*layers):
        return config.resolve(config.make_config(TINY, *layers))

    return resolve


@pytest.fixture(scope="session")
def run_sweep(resolved):
    """run_sweep(layer, ..., mode="map", ...) -> results of the whole grid; keywords
    are those of Engine, or `folder`, `stop`, `say` and `progress` of the Sweeper."""

    def run(
        *layers,
        folder=None,
        stop=lambda: False,
        say=lambda _: None,
        progress=lambda _: None,
        **engine,
    ):
        plan = resolved(*layers).plan
        sweeper = runner.Sweeper(
            plan,
            planning.Engine(**{"mode": "map", **engine}),
            folder=folder,
            say=say,
            progress=progress,
            stop_requested=stop,
        )
        return sweeper.run()

    return run


@pytest.fixture(scope="session")
def run_alone(resolved):
    """run_alone(layer, ...) -> (state, records, data, settings) of ONE run, without
    the sweep engine: init and one segment over all records, jitted."""

    def run(*layers):
        plan = resolved(*layers).plan
        own = plan.experiment
        files = experiment.load_files(own)
        data = jax.jit(lambda files: experiment.make_dataset(own, **files))(files)
        one = experiment.make(own)
        steps = programs.Group((0,), (own,)).steps
        state, records = jax.jit(lambda data: train.run(one, data, steps))(data)
        return state, records, data, {**plan.settings, "steps": steps}

    return run


@pytest.fixture(scope="session")
def assert_identical():
    """assert_identical(a, b): the same variables with the same bits, NaN included, but
    for those that tell of the clock."""

    def check(actual, expected):
        assert sorted(actual) == sorted(expected)
        for name in {*expected} - {*runner.BY_CLOCK}:
            a, b = np.asarray(actual[name]), np.asarray(expected[name])
            assert a.dtype == b.dtype and a.shape == b.shape, name
            np.testing.assert_array_equal(a, b, err_msg=str(name), strict=True)

    return check
