"""Bytes by hand, and of compiled programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from grok_jax.engine import memory
from grok_jax.engine.memory import Bytes, of_program

SIZE = 50
X = np.ones(SIZE, np.float32)
WIDE = 4 * SIZE**2


def large(x):
    """Much more work space than input or output: [50] -> [50] by way of [50, 50]."""
    wide = jnp.sin(jnp.outer(x, x))
    return jnp.sum(jnp.linalg.matrix_power(wide, 3), axis=0)


def compiled(fn, *arguments):
    return jax.jit(fn).lower(*arguments).compile()


def many(runs):
    return np.ones((runs, SIZE), np.float32)


def test_what_arrays_and_shapes_take():
    key = jax.random.key(0)
    shape = jax.ShapeDtypeStruct((3, 5), jnp.bfloat16)
    assert memory.size_of({"a": X, "b": (shape, True), "c": key}) == 200 + 30 + 1 + 8
    assert memory.size_of(()) == 0


def test_of_a_sharded_array_a_device_has_a_part():
    mesh = Mesh(np.array(jax.devices()), ("run",))
    over = NamedSharding(mesh, PartitionSpec("run"))
    assert memory.size_of(jax.device_put(many(6), over)) == 3 * SIZE * 4
    shape = jax.ShapeDtypeStruct((6, SIZE), np.float32, sharding=over)
    assert memory.size_of(shape) == 3 * SIZE * 4


def test_what_a_library_works_with_is_counted_whatever_the_plan_says():
    """Here JAX 0.12 plans no temporaries at all, and older ones one of the three
    [50, 50] that a run has at once."""
    few, lots = (
        of_program(compiled(jax.vmap(large), many(n)), many(n)) for n in (8, 64)
    )
    assert 2 * 64 * WIDE <= lots.temporaries <= 4 * 64 * WIDE
    assert lots.temporaries == pytest.approx(8 * few.temporaries, rel=0.01)
    assert lots.arguments == lots.outputs == 64 * 200
    assert lots.total == sum(lots)


class _WithoutPlan:
    """A compiled program of a platform that tells nothing of its memory."""

    def __init__(self, program):
        self._program = program
        self.out_info = program.out_info

    def memory_analysis(self):
        return None

    def as_text(self):
        return self._program.as_text()


@pytest.mark.parametrize("fn", [jax.vmap(large), lambda x: jax.lax.map(large, x)])
def test_without_a_plan_the_programs_text_is_walked(fn):
    program = compiled(fn, many(16))
    planned = of_program(program, many(16))
    walked = of_program(_WithoutPlan(program), many(16))
    assert walked.arguments == planned.arguments and walked.outputs == planned.outputs
    assert 0.3 < walked.total / planned.total < 3


def test_what_a_program_drops_is_held_all_the_same():
    program = compiled(lambda x, y: x + 1, X, many(9))
    assert of_program(program).arguments == 200
    assert of_program(program, (X, many(9))) == Bytes(200 + 9 * 200, 200, 0)


def test_a_result_in_an_arguments_place_is_not_counted_twice():
    program = jax.jit(lambda x: x + 1, donate_argnums=0).lower(X).compile()
    assert of_program(program, X) == Bytes(200, 0, 0)
