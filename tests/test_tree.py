"""Trees of arrays: what one flat vector would give."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from grok_jax import tree

TREE = {"w": jnp.arange(6.0).reshape(2, 3), "b": (jnp.array([-2.0]), jnp.float32(3))}


def flat(value):
    return np.asarray(jax.flatten_util.ravel_pytree(value)[0])


def test_norm_is_that_of_the_flat_vector():
    np.testing.assert_allclose(tree.norm(TREE), np.linalg.norm(flat(TREE)), rtol=1e-6)


def test_norm_counts_every_leaf_once_and_is_homogeneous():
    doubled = tree.norm({"one": TREE, "other": TREE})
    np.testing.assert_allclose(doubled, np.sqrt(2) * tree.norm(TREE), rtol=1e-6)
    scaled = tree.norm(tree.scale(TREE, -3.0))
    np.testing.assert_allclose(scaled, 3 * tree.norm(TREE), rtol=1e-6)


def test_scale_keeps_each_dtype_under_a_wider_factor():
    mixed = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2, jnp.float32)}
    scaled = jax.jit(tree.scale)(mixed, jnp.float32(0.5))
    assert jax.tree.map(lambda v: v.dtype, scaled) == jax.tree.map(
        lambda v: v.dtype, mixed
    )
    assert all((leaf == 0.5).all() for leaf in jax.tree.leaves(scaled))


def test_subtract_is_leaf_by_leaf():
    difference = tree.subtract(tree.scale(TREE, 3.0), TREE)
    np.testing.assert_array_equal(flat(difference), 2 * flat(TREE))


def test_select_takes_one_side_whole_and_lets_no_nan_of_the_other_through():
    bad = jax.tree.map(lambda v: jnp.full_like(v, jnp.nan), TREE)
    taken = jax.jit(tree.select)(jnp.bool_(True), TREE, bad)
    np.testing.assert_array_equal(flat(taken), flat(TREE))
    taken = jax.jit(tree.select)(jnp.bool_(False), bad, TREE)
    np.testing.assert_array_equal(flat(taken), flat(TREE))


def test_flat_names_are_unique_and_in_tree_order():
    named = tree.flat_names({"b": {"x": 1, "a": 2}, "a": [3, (4,)]})
    assert named == {"a.0": 3, "a.1.0": 4, "b.a": 2, "b.x": 1}
    assert list(named.values()) == jax.tree.leaves({"b": {"x": 1, "a": 2}, "a": [3, 4]})
