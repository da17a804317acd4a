"""The engine on any function: exactness, padding, chunks, devices, compilations."""

import functools
import os
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import sweep
from grok_jax.engine import memory

pytestmark = pytest.mark.optimised(always=False)

DEVICES = jax.local_devices()
X = np.random.default_rng(0).standard_normal((11, 5)).astype(np.float32)
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "collective-permute",
    "reduce-scatter",
    "collective-broadcast",
)


def train(run):
    """A few steps of descent on a small network drawn from the run's own key. The
    runs share their data, so that a batched product rounds unlike a single one."""
    drawn = jax.random.uniform(run["key"], (42,), minval=-1.0)
    x = jnp.asarray(X)
    y = jnp.sin(x[:, 0])
    start = {"w": drawn[:35].reshape(5, 7), "v": drawn[35:]}

    def loss(p):
        hidden = jnp.tanh(jnp.matmul(x, p["w"]))
        return jnp.mean((jnp.matmul(hidden, p["v"]) - y) ** 2)

    def step(p, _):
        value, grads = jax.value_and_grad(loss)(p)
        return jax.tree.map(lambda a, g: a - run["rate"] * g, p, grads), value

    params, losses = jax.lax.scan(step, start, None, 12)
    return {
        "losses": losses,
        "params": params,
        "key": jax.random.fold_in(run["key"], 1),
    }


def runs(count, seed=0):
    return {
        "key": jax.random.split(jax.random.key(seed), count),
        "rate": np.linspace(0.05, 0.3, count, dtype=np.float32),
    }


def take(tree, places):
    return jax.tree.map(lambda leaf: leaf[places], tree)


def plain(tree):
    """Key arrays as their data, everything as numpy."""
    return jax.tree.map(
        lambda leaf: np.asarray(
            jax.random.key_data(leaf)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        ),
        tree,
    )


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(
        jax.tree.leaves(plain(actual)), jax.tree.leaves(plain(expected)), strict=True
    ):
        np.testing.assert_array_equal(a, b, strict=True)


@functools.cache
def reference():
    """Seven runs by `map` on all devices at once."""
    return sweep.run_batched(train, runs(7), mode="map")


# --- map: the bits of the stand-alone run --------------------------------------------


def test_map_gives_the_bits_of_each_run_alone():
    alone = jax.jit(train)
    for i in range(7):
        assert_same(take(reference(), i), alone(take(runs(7), i)))


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
def test_map_gives_the_same_bits_in_chunks_of_any_size(chunk):
    assert_same(
        sweep.run_batched(train, runs(7), mode="map", runs_per_chunk=chunk),
        reference(),
    )


@pytest.mark.parametrize("devices", [DEVICES[:1], DEVICES[1:], DEVICES[::-1]])
def test_map_gives_the_same_bits_on_any_devices(devices):
    assert_same(
        sweep.run_batched(train, runs(7), mode="map", devices=devices), reference()
    )


@pytest.mark.parametrize("places", [[3], [6, 0], [4, 4, 4, 2, 1]])
def test_map_gives_the_same_bits_in_any_place_of_any_grid(places):
    places = np.array(places)
    assert_same(
        sweep.run_batched(train, take(runs(7), places), mode="map"),
        take(reference(), places),
    )


def test_map_gives_the_same_bits_beside_a_run_that_diverges():
    inputs = runs(7)
    inputs["rate"][3] = 1e6
    spoilt = sweep.run_batched(train, inputs, mode="map")
    assert not np.isfinite(spoilt["losses"][3, -1])
    others = np.array([0, 1, 2, 4, 5, 6])
    assert_same(take(spoilt, others), take(reference(), others))


# --- vmap ----------------------------------------------------------------------------


def test_vmap_agrees_with_map_to_rounding_in_any_chunks_on_any_devices():
    for options in ({}, {"runs_per_chunk": 3}, {"devices": DEVICES[:1]}):
        batched = sweep.run_batched(train, runs(7), mode="vmap", **options)
        np.testing.assert_allclose(
            batched["losses"], reference()["losses"], rtol=1e-4, atol=1e-6
        )
        assert_same(batched["key"], reference()["key"])


def test_vmap_keeps_a_run_that_diverges_to_itself():
    inputs = runs(7)
    inputs["rate"][3] = 1e6
    spoilt = sweep.run_batched(train, inputs, mode="vmap")["losses"]
    assert not np.isfinite(spoilt[3, -1])
    others = np.array([0, 1, 2, 4, 5, 6])
    np.testing.assert_allclose(
        spoilt[others], reference()["losses"][others], rtol=1e-4, atol=1e-6
    )


def test_auto_is_map_on_a_cpu_and_vmap_on_an_accelerator():
    class Card(NamedTuple):
        platform: str

    assert sweep.mode_for(DEVICES) == "map"
    assert sweep.mode_for([Card("gpu")]) == sweep.mode_for([Card("tpu")]) == "vmap"
    assert_same(sweep.run_batched(train, runs(7), mode="auto"), reference())


# --- keys, trees, padding ------------------------------------------------------------


@pytest.mark.parametrize("mode", ["map", "vmap", "auto"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_typed_keys_go_in_and_come_out(mode, count):
    keys = jax.random.split(jax.random.key(0), count)
    out = sweep.run_batched(jax.random.split, keys, mode=mode, runs_per_chunk=2)
    assert jnp.issubdtype(out.dtype, jax.dtypes.prng_key)
    assert_same(out, jax.vmap(jax.random.split)(keys))


@pytest.mark.parametrize("mode", ["map", "vmap"])
@pytest.mark.parametrize("count", range(1, 8))
def test_no_padding_is_seen_in_the_results(mode, count):
    inputs = {"a": np.arange(count, dtype=np.int32), "b": np.ones((count, 2))}
    out = sweep.run_batched(lambda r: (r["a"] + 1, r["b"] * r["a"]), inputs, mode=mode)
    np.testing.assert_array_equal(out[0], np.arange(1, count + 1))
    np.testing.assert_array_equal(out[1], np.arange(count)[:, None] * np.ones((1, 2)))


@pytest.mark.parametrize("count", range(1, 9))
@pytest.mark.parametrize("room", [0, 3])
def test_what_a_layout_places_it_collects(count, room):
    place = sweep.layout(count, DEVICES, count + room)
    values = np.arange(count * 3, dtype=np.int32).reshape(count, 3)
    placed = place.place({"v": values})
    np.testing.assert_array_equal(place.collect(placed)["v"], values)
    assert len(placed["v"]) == place.slots * len(DEVICES) >= count + room
    assert int(place.counts().sum()) == count
    shapes = place.placed_shapes({"v": values})["v"]
    assert (shapes.shape, shapes.dtype) == (placed["v"].shape, placed["v"].dtype)
    assert place.shapes(placed)["v"].shape == values.shape


def test_neighbours_of_a_grid_lie_on_different_devices():
    placed = sweep.layout(5, DEVICES).place(np.arange(5))
    on = [set(np.asarray(shard.data)) for shard in placed.addressable_shards]
    assert on == [{0, 2, 4}, {1, 3, 0}]  # the last slot is padding


def test_padding_costs_no_run_in_map_mode():
    """The loop's length on each device is its number of real runs."""
    calls = []

    def fn(x):
        jax.debug.callback(lambda v: calls.append(float(v)), x)
        return x

    sweep.run_batched(fn, np.array([5.0, 6.0, 7.0]), mode="map", runs_per_chunk=2)
    jax.effects_barrier()
    assert sorted(calls) == [5.0, 6.0, 7.0]


# --- compilations and what is compiled -----------------------------------------------


def compiled_for(compilations, count, **options):
    """How often the batched program was compiled for `count` runs."""

    def fresh(run):
        return train(run)

    with compilations() as names:
        sweep.run_batched(fresh, runs(count), **options)
    return sum("on_device" in name for name in names)


@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_sixty_four_runs_compile_as_often_as_two(compilations, mode):
    assert compiled_for(compilations, 2, mode=mode) == 1
    assert compiled_for(compilations, 64, mode=mode) == 1


def test_chunks_share_one_compilation_the_last_included(compilations):
    assert compiled_for(compilations, 7, mode="map", runs_per_chunk=3) == 1


def test_other_values_do_not_compile_again(compilations):
    with compilations() as names:
        for seed in range(4):
            sweep.run_batched(train, runs(4, seed), mode="map", runs_per_chunk=4)
    assert sum("on_device" in name for name in names) == 1


@pytest.mark.optimised
@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_no_collective_is_in_the_compiled_program(mode):
    program = sweep.batch(
        lambda shared, run, carry: (carry + shared, train(run)),
        mode=mode,
        devices=DEVICES,
    )
    place = sweep.layout(6, DEVICES)
    carries = place.place(np.zeros(6, np.float32))
    shared = place.share(np.float32(1))
    args = (shared, place.place(runs(6)), carries, place.counts())
    text = program.lower(*args).compile().as_text()
    assert "num_partitions=2" in text
    assert not [name for name in COLLECTIVES if name in text]


@pytest.mark.optimised
def test_a_carry_goes_round_and_its_memory_with_it():
    program = sweep.batch(
        lambda shared, run, carry: (carry + shared * run, carry),
        mode="map",
        devices=DEVICES,
    )
    place = sweep.layout(5, DEVICES)
    shared, runs_ = place.share(np.float32(10)), place.place(np.arange(5.0))
    first = carries = place.place(np.ones(5))
    for _ in range(3):
        carries, before = program(shared, runs_, carries, place.counts())
    np.testing.assert_allclose(place.collect(carries), 1 + 30 * np.arange(5))
    np.testing.assert_allclose(place.collect(before), 1 + 20 * np.arange(5))
    assert first.is_deleted()


# --- memory --------------------------------------------------------------------------


def large(run):
    """Much more work space than input or output."""
    wide = jnp.outer(run, run)
    return jnp.sum(jnp.linalg.matrix_power(jnp.sin(wide), 3), axis=0)


def compiled_large(mode, place):
    program = sweep.batch(lambda _, r, c: (c, large(r)), mode=mode, devices=DEVICES)
    runs_ = place.place(np.ones((place.count, 50), np.float32))
    return program.lower((), runs_, (), place.counts()).compile()


@pytest.mark.optimised
@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_a_chunk_shrinks_until_it_fits_the_budget(mode):
    def needed(slots):
        place = sweep.layout(slots * len(DEVICES), DEVICES)
        return memory.of_program(compiled_large(mode, place)).total

    whole = needed(32)
    assert sweep.slots_that_fit(needed, 32, whole) == (32, whole)
    budget = int(0.75 * whole)
    slots, size = sweep.slots_that_fit(needed, 32, budget)
    assert 1 <= slots <= 24 and size is not None and size <= budget
    assert sweep.slots_that_fit(needed, 32, 1) == (0, needed(1))


def test_a_compiler_that_refuses_what_does_not_fit_is_asked_for_less():
    def needed(slots, room=10):
        if 10 * slots + 5 > 10 * room:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return 10 * slots + 5

    assert sweep.slots_that_fit(needed, 32, 100) == (8, 85)
    assert sweep.slots_that_fit(needed, 32, 60) == (5, 55)
    assert sweep.slots_that_fit(lambda slots: needed(slots, 1), 4, 9) == (0, None)

    def broken(slots):
        raise jax.errors.JaxRuntimeError("INTERNAL: another error")

    with pytest.raises(jax.errors.JaxRuntimeError, match="another error"):
        sweep.slots_that_fit(broken, 4, 9)


@pytest.mark.optimised
def test_memory_grows_with_the_runs_under_vmap_and_map_works_on_one_at_a_time():
    needed = {
        mode: [
            memory.of_program(compiled_large(mode, sweep.layout(n, DEVICES))).total
            for n in (8, 64)
        ]
        for mode in ("map", "vmap")
    }
    assert needed["vmap"][1] > 6 * needed["vmap"][0]
    assert needed["map"][1] < needed["vmap"][1] / 6


def test_the_budget_of_a_cpu_device_is_its_share_of_the_free_memory():
    one, two = (sweep.memory_budget(DEVICES[:n]) for n in (1, 2))
    assert one > 2**20
    assert two == pytest.approx(one / 2, rel=0.2)


# --- errors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "options", "sentence"),
    [
        (np.arange(3), {"mode": "pmap"}, "mode is 'pmap'; it must be auto, map or vma"),
        (np.arange(3), {"runs_per_chunk": 0}, "runs_per_chunk must be at least 1, not"),
        (np.zeros(0), {}, "the same leading run axis of at least 1; found lengths [0]"),
        (np.float32(1), {}, "leading run axis of at least 1; found lengths [0]"),
        ({}, {}, "leading run axis of at least 1; found lengths []"),
        (
            {"a": np.zeros(2), "b": np.zeros(3)},
            {},
            "leading run axis of at least 1; found lengths [2, 3]",
        ),
    ],
)
def test_each_kind_of_bad_input_has_its_own_sentence(inputs, options, sentence):
    with pytest.raises(ValueError) as error:
        sweep.run_batched(lambda x: x, inputs, **options)
    assert sentence in str(error.value)


@pytest.mark.parametrize("devices", [1, 2, 3, 4])
@pytest.mark.parametrize("things", [1, 2, 3])
def test_the_order_in_which_runs_use_what_they_share(devices, things):
    """Twelve runs for each device use `things` data sets, each device as the others."""
    place = sweep.Layout(12 * devices, 12, tuple(range(devices)))
    in_turns = np.arange(12 * devices) // devices % things
    in_rows = np.arange(12 * devices) // devices // (12 // things)
    for which, order in ((in_turns, "in turns"), (in_rows, "in rows")):
        numbers, places = place.deal(which, things)
        expected = "in turns" if things == 1 else order
        assert place.order_of(places, things) == expected
        device = np.arange(len(which)) % devices
        np.testing.assert_array_equal(numbers[device, places], which)
    mixed = in_turns.copy()
    mixed[: 2 * devices] = mixed[: 2 * devices][::-1]
    mixed[-1] = mixed[0]
    if things > 1:
        _, places = place.deal(mixed, things)
        assert place.order_of(places, things) == "any"


def test_runs_that_begin_anywhere_in_their_turns_are_still_in_turns():
    place = sweep.Layout(8, 4, (0, 1))
    which = np.array([2, 0, 1, 2, 0, 1, 2, 0])  # on either device 2 1 0 2 and 0 2 1 0
    numbers, places = place.deal(which, 3)
    assert numbers.tolist() == [[2, 1, 0], [0, 2, 1]]
    assert places.tolist() == [0, 0, 1, 1, 2, 2, 0, 0]


# --- more devices than cores ---------------------------------------------------------

EIGHT = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
import numpy as np
from grok_jax import sweep

def fn(run):
    def step(v, _):
        v = v - run["rate"] * jax.numpy.matmul(run["a"], v)
        return v, v
    return jax.lax.scan(step, run["v"], None, 5)[1]

rng = np.random.default_rng(0)
runs = {
    "rate": np.linspace(0.01, 0.1, 19, dtype=np.float32),
    "a": rng.standard_normal((19, 6, 6)).astype(np.float32),
    "v": rng.standard_normal((19, 6)).astype(np.float32),
}
assert len(jax.local_devices()) == 8
alone = np.stack([jax.jit(fn)(jax.tree.map(lambda l: l[i], runs)) for i in range(19)])
for mode in ("map", "vmap"):
    for options in ({}, {"runs_per_chunk": 10}):
        out = sweep.run_batched(fn, runs, mode=mode, **options)
        np.testing.assert_allclose(out, alone, rtol=1e-4, atol=1e-5)
print("agreed")
"""


def test_eight_virtual_devices_agree_to_rounding():
    done = subprocess.run(
        [sys.executable, "-c", EIGHT],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.strip() == "agreed", done.stderr[-2000:]
