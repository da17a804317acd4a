"""Products of a program: counted by hand, by XLA, and executed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import rates
from grok_jax.engine import products

A, B = jax.ShapeDtypeStruct((3, 5), float), jax.ShapeDtypeStruct((5, 7), float)
DEVICES = tuple(jax.local_devices())


def count(function, *arguments):
    return products.flops(products.products_of(function, *arguments))


@pytest.mark.parametrize(
    ("function", "flops"),
    [
        (jnp.matmul, 2 * 3 * 5 * 7),
        (lambda a, b: jnp.einsum("ik,kj->ji", a, b) + 1, 2 * 3 * 5 * 7),
        (lambda a, b: jnp.einsum("ik,kj->kij", a, b), 2 * 3 * 5 * 7),
        (lambda a, b: a @ b[:, 0], 2 * 3 * 5),
        (lambda a, b: jnp.sin(a) + b[0, 0], 0),
        (jax.jit(jnp.matmul), 2 * 3 * 5 * 7),
        (jax.checkpoint(jnp.matmul), 2 * 3 * 5 * 7),
        (
            lambda a, b: jax.lax.scan(lambda c, _: (a.T @ (a @ c), 0), b, length=4),
            4 * (2 * 2 * 3 * 5 * 7),
        ),
        (
            lambda a, b: jax.lax.cond(b[0, 0] > 0, lambda: a @ b, lambda: 2 * (a @ b)),
            2 * 3 * 5 * 7,
        ),
        (
            lambda a, b: jax.lax.while_loop(
                lambda c: c[0, 0] > 0, lambda c: b @ (b.T @ c), a.T
            ),
            2 * (2 * 5 * 7 * 3),
        ),
    ],
)
def test_products_are_counted_as_often_as_they_are_executed(function, flops):
    assert count(function, A, B) == flops


def test_xla_counts_the_same_for_a_chain_of_products_and_its_gradient():
    def loss(a, b, c):
        return jnp.vdot(a @ b, c)

    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((64, 96), (96, 32))]
    shapes.append(jax.ShapeDtypeStruct((64, 32), jnp.float32))
    gradient = jax.grad(loss, argnums=(0, 1))
    cost = jax.jit(gradient).lower(*shapes).compile().cost_analysis()
    ours = count(gradient, *shapes) - count(loss, *shapes)  # the loss itself is unused
    assert ours == pytest.approx(cost["flops"], rel=0.01)


def test_of_two_branches_the_costlier_one_counts():
    def either(a, b):
        return jax.lax.cond(b[0, 0] > 0, lambda: a @ b, lambda: a @ (b @ (b.T @ b)))

    assert count(either, A, B) == 2 * (2 * 5 * 7 * 7) + 2 * 3 * 5 * 7


def test_products_by_themselves_are_executed_as_often_as_asked():
    """The next one's left operand has an entry of what the last one was, so that none
    can be taken out of the loop."""
    (once,) = products.products_of(jnp.matmul, A, B)
    call = rates.by_themselves([once], DEVICES)
    (left,), (right,), _ = jax.tree.map(np.asarray, call(0))
    assert left.shape == (len(DEVICES), 3, 5)
    left, right = left[0].copy(), right[0]
    for turns in (1, 2, 3):
        out = left @ right
        np.testing.assert_allclose(call(turns)[2][0], np.stack([out] * 2), rtol=1e-5)
        left[0, 0] = out[0, 0]
    thrice = rates.by_themselves([once._replace(times=3)], DEVICES)
    np.testing.assert_array_equal(thrice(1)[2][0], call(3)[2][0])


def test_the_rate_is_that_of_square_products_on_all_devices_and_on_one():
    calls = rates.gemm_calls(DEVICES, (8, 16))
    assert {name: work for name, (_, work) in calls.items()} == {
        **{"sweep 8": len(DEVICES) * 2 * 8**3, "threads 8": 2 * 8**3},
        **{"sweep 16": len(DEVICES) * 2 * 16**3, "threads 16": 2 * 16**3},
    }
    square = np.random.default_rng(0).random((8, 8), np.float32)
    np.testing.assert_allclose(calls["threads 8"][0](), square @ square, rtol=1e-6)
    on_each = np.asarray(calls["sweep 8"][0]())
    assert on_each.shape == (len(DEVICES), 8, 8)
    for own in on_each:
        np.testing.assert_allclose(own, square @ square / 8, rtol=1e-6)


def test_a_transposed_product_is_formed_as_the_transpose():
    """The gradient of x w by w: x^T g, for which jax writes the transpose of g^T x."""
    gradient = jax.grad(lambda w, x: jnp.sum(jnp.sin(x @ w)))
    _, found = products.products_of(gradient, B, A)
    assert (found.left, found.right) == ((3, 5), (3, 7))
    assert found.flops == 2 * 3 * 5 * 7
    g = np.arange(21.0).reshape(3, 7)
    x = np.arange(15.0).reshape(3, 5)
    np.testing.assert_allclose(jax.lax.dot_general(x, g, found.dimensions), x.T @ g)


def test_of_what_depends_on_the_platform_only_this_ones_products_count():
    def double(x):
        return jax.lax.platform_dependent(
            x, cpu=lambda x: x + x, default=lambda x: x @ (2 * jnp.eye(4))
        )

    assert products.products_of(double, jnp.ones((3, 4))) == []
