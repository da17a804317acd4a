"""Counts that are known by construction, and lines as three compilers write them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from benchmarks import findings
from grok_jax import sweep
from grok_jax.engine import census
from grok_jax.engine.census import Shape

FLOAT = "f64" if jnp.zeros(1).dtype == "float64" else "f32"


def compiled(fn, *arguments):
    options = sweep.compiler_options(jax.local_devices())
    program = jax.jit(fn).lower(*arguments).compile(compiler_options=options)
    return census.read(program.as_text())


def loop_of(program, scope="own"):
    (loop,) = program.loops(scope)
    return loop


def looped(step, *, scope="own"):
    """(x, turns) -> x after so many steps, in a loop of that scope."""

    def fn(x, turns):
        with jax.named_scope(scope):
            return jax.lax.fori_loop(0, turns, step, x)

    return fn


def test_a_sort_is_counted_where_it_stands():
    def step(i, x):
        return jax.lax.cond(i % 7 == 0, jnp.sort, lambda x: x + 1, x)

    def fn(x, turns):
        return looped(step)(jnp.sort(jnp.sin(x)), turns)

    program = compiled(fn, jnp.ones(64), 5)
    loop = loop_of(program)
    assert program.census()["sort"] == 2
    assert program.census(loop)["sort"] == 1
    assert program.census(loop, branches=False)["sort"] == 0
    assert program.census(loop)["conditional"] == 1
    # under vmap a predicate that runs share keeps the conditional, another does not
    shared = compiled(jax.vmap(fn, (0, None)), jnp.ones((3, 64)), 5)
    assert shared.census(loop_of(shared), branches=False)["sort"] == 0
    own = compiled(jax.vmap(fn), jnp.ones((3, 64)), jnp.arange(3))
    assert own.census(loop_of(own), branches=False)["sort"] == 1
    assert own.census()["conditional"] == 0


@pytest.mark.optimised
def test_a_gradient_of_a_look_up_scatters_and_one_by_a_product_does_not():
    rows = jnp.array([3, 1, 3])

    def value(x, one_hot):
        taken = jnp.eye(8)[rows] @ x if one_hot else x[rows]
        return jnp.sum(jnp.sin(taken))

    def step(one_hot):
        return looped(lambda i, x: x - jax.grad(value)(x, one_hot))

    looked_up = compiled(step(False), jnp.ones((8, 4)), 5)
    counts = looked_up.census(loop_of(looked_up))
    assert (counts["scatter"], counts["gather"], counts["product"]) == (1, 1, 0)
    multiplied = compiled(step(True), jnp.ones((8, 4)), 5)
    counts = multiplied.census(loop_of(multiplied))
    assert (counts["scatter"], counts["gather"], counts["product"]) == (0, 0, 2)


def test_loops_are_told_apart_by_depth_scope_and_turns():
    def inner(x):
        with jax.named_scope("inner"):
            return jax.lax.fori_loop(0, 3, lambda i, x: jnp.sin(x) @ x, x)

    def fn(x, turns):
        return looped(lambda i, x: inner(x) + i)(x, turns)

    program = compiled(fn, jnp.ones((4, 4)), 5)
    outer, within = program.loops()
    assert (outer.depth, within.depth) == (0, 1)
    assert program.loops("own") == [outer] and program.loops("inner") == [within]
    assert program.loops("else") == []
    assert program.census(outer)["product"] == program.census(within)["product"] == 1
    assert program.census(outer)["while"] == 1 and program.census(within)["while"] == 0
    batched = compiled(jax.vmap(fn, (0, None)), jnp.ones((2, 4, 4)), 5)
    assert len(batched.loops("own")) == 1


def test_a_branch_says_so_of_its_loops():
    def fn(ask, x, turns):
        return jax.lax.cond(
            ask, looped(lambda i, x: jnp.sin(x)), lambda x, _: x, x, turns
        )

    program = compiled(fn, True, jnp.ones(4), 5)
    assert loop_of(program).in_branch
    plain = compiled(looped(lambda i, x: jnp.sin(x)), jnp.ones(4), 5)
    assert not loop_of(plain).in_branch


def test_a_loop_whose_end_is_each_runs_own_asks_all_runs():
    fn, x = looped(lambda i, x: jnp.sin(x) * i), jnp.ones((3, 4))
    shared = compiled(jax.vmap(fn, (0, None)), x, 5)
    assert not findings.asks_of_runs(shared, loop_of(shared))
    own = compiled(jax.vmap(fn), x, jnp.arange(3))
    assert findings.asks_of_runs(own, loop_of(own))


def test_a_call_of_the_host_is_found():
    def step(i, x):
        jax.debug.callback(lambda x: None, x[0])
        return jnp.sin(x)

    program = compiled(looped(step), jnp.ones(4), 5)
    assert program.census(loop_of(program))["host"] == 1
    silent = compiled(looped(lambda i, x: jnp.sin(x)), jnp.ones(4), 5)
    assert silent.census()["host"] == 0


def test_what_devices_tell_one_another_is_found():
    mesh, over = Mesh(np.array(jax.devices()), ("run",)), PartitionSpec("run")

    def program(step):
        fn = looped(step)
        return compiled(
            jax.shard_map(
                fn,
                mesh=mesh,
                in_specs=(over, PartitionSpec()),
                out_specs=over,
                check_vma=False,
            ),
            jnp.ones((2, 4)),
            5,
        )

    telling = program(lambda i, x: x + jax.lax.psum(jnp.sin(x), "run"))
    assert telling.census(loop_of(telling))["collective"] == 1
    assert program(lambda i, x: x + jnp.sin(x)).census()["collective"] == 0


def test_double_precision_is_found():
    with jax.enable_x64(True):
        program = compiled(looped(lambda i, x: jnp.sin(x)), jnp.ones(4, float), 5)
    assert program.census(loop_of(program))["double"] > 0
    with jax.enable_x64(False):
        single = compiled(looped(lambda i, x: jnp.sin(x)), jnp.ones(4), 5)
    assert single.census()["double"] == 0


def test_a_copy_of_shared_data_for_each_run_is_found():
    """A conditional that differs between runs copies what it works on; a loop over
    what runs share does not."""
    data, x, asked = jnp.ones((50, 6)), jnp.ones((3, 6)), jnp.array([True, False, True])

    def fn(data, x, ask, turns):
        def train(data, x):
            return looped(lambda i, x: x + jnp.tanh(data @ x) @ data)(x, turns)

        return jax.lax.cond(ask, train, lambda data, x: x + data[0], data, x)

    def copies(in_axes, ask):
        batched = jax.vmap(fn, in_axes)
        program = compiled(batched, data, x, ask, 5)
        return findings.copies_of(program, Shape(FLOAT, (50, 6)), runs=3)

    assert not copies((None, 0, None, None), asked[0])
    assert copies((None, 0, 0, None), asked)
    arguments = (data, x, asked, 5)
    assert findings.batched_conditionals(fn, (None, 0, 0, None), *arguments) == 1
    look_up = jax.vmap(lambda sets, x, i: sets[i] @ x, (None, 0, 0))
    gathered = compiled(look_up, data[None], x, jnp.zeros(3, int))
    assert findings.copies_of(gathered, Shape(FLOAT, (50, 6)), runs=3)


def test_a_bias_that_is_spread_over_results_of_the_datas_shape_is_no_copy_of_data():
    def fn(data, bias):
        return jnp.sort(jnp.broadcast_to(bias[None], data.shape)), data.sum()

    data = jnp.ones((50, 6))
    for runs in (3, 60):  # of 60 the biases are more numbers than the data
        program = compiled(jax.vmap(fn, (None, 0)), data, jnp.ones((runs, 6)))
        assert not findings.copies_of(program, Shape(FLOAT, data.shape), runs)
    gathered = compiled(
        lambda x: jnp.sort(jnp.broadcast_to(x[None], (3, 50, 6)), 1), data
    )
    assert findings.copies_of(gathered, Shape(FLOAT, data.shape), runs=3)


def test_padded_indices_are_no_copy_of_data():
    """Of one data set for two runs, a column of zeros beside it is as many numbers."""
    data = jnp.ones((50, 6))
    pad = compiled(lambda x: jnp.sort(jnp.pad(x, ((0, 50), (0, 0))), 0), data)
    assert not findings.copies_of(pad, Shape(FLOAT, data.shape), runs=2)


def test_train_and_test_examples_side_by_side_are_no_copy_of_data():
    """Of one data set for two runs, both halves joined are as many numbers."""
    train, test = jnp.ones((50, 6)), jnp.zeros((50, 6))
    joined = compiled(lambda *both: jnp.sort(jnp.concatenate(both), 0), train, test)
    assert not findings.copies_of(joined, Shape(FLOAT, train.shape), runs=2)


def test_conditionals_within_loops_are_compared_too():
    def fn(every, x):
        def step(i, x):
            return jax.lax.cond(i % every == 0, jnp.sort, lambda x: x, x)

        return jax.lax.fori_loop(0, 9, step, x)

    x = jnp.ones((2, 5))
    assert findings.batched_conditionals(fn, (None, 0), 2, x) == 0
    assert findings.batched_conditionals(fn, (0, 0), jnp.array([2, 3]), x) == 1


def test_what_is_fused_costs_no_pass_but_is_searched():
    table, rows = jnp.ones((9, 4)), jnp.array([1, 2])
    program = compiled(lambda t, r: jnp.sin(t[r].T) + 1, table, rows)
    counts = program.census()
    assert counts["gather"] == 1 and counts["fusion"] >= 1
    assert counts["transpose"] == 0
    assert counts["kernel"] <= 2


GPU = """HloModule jit_f, is_scheduled=true

%cond.1 (p: (s32[], f32[8,4])) -> pred[] {
  %p = (s32[], f32[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] constant(9)
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

%body.1 (p.1: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p.1 = (s32[], f32[8,4]{1,0}) parameter(0)
  %x = f32[8,4]{1,0} get-tuple-element(%p.1), index=1
  %g = (f32[8,4]{1,0}, s8[64]{0}) custom-call(%x, %x), custom_call_target=\
"__cublas$gemm"
  %s = (f32[32]{0}, s8[9]{0}) custom-call(%x), custom_call_target=\
"__cub$DeviceRadixSort"
  %a = f32[8,4]{1,0} all-reduce-start(%x), to_apply=%add
  %b = f32[8,4]{1,0} all-reduce-done(%a)
  %i.1 = s32[] get-tuple-element(%p.1), index=0
  ROOT %t = (s32[], f32[8,4]{1,0}) tuple(%i.1, %b)
}

ENTRY %main.2 (x.1: f32[8,4], /*index=1*/y: f32[]) -> (s32[], f32[8,4]) {
  %x.1 = f32[8,4]{1,0:T(8,128)S(1)} parameter(0)
  ROOT %w = (s32[], /*index=1*/f32[8,4]{1,0}) while(%x.1), condition=%cond.1, \
body=%body.1, metadata={op_name="jit(f)/vmap(own)/while" stack_frame_id=1}, \
backend_config={"known_trip_count":{"n":"9"}}
}
"""


def test_the_names_of_a_gpus_libraries_are_known():
    program = census.read(GPU)
    loop = loop_of(program)
    assert loop.instruction.shapes == (Shape("s32", ()), Shape("f32", (8, 4)))
    counts = {kind: n for kind, n in program.census(loop).items() if n}
    assert counts == {
        **{"sort": 1, "product": 1, "collective": 1},
        **{"custom-call": 2, "kernel": 4},  # the done of a start is none
    }


def test_another_text_is_refused():
    lowered = jax.jit(jnp.sin).lower(1.0)
    for text in ("", lowered.as_text(), "HloModule nothing\n"):
        with pytest.raises(ValueError, match="not the text of a compiled program"):
            census.read(text)
