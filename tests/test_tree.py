"""Trees of arrays: what one flat vector would give."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from grok_jax import tree

TREE = {"w": jnp.arange(6.0).reshape(2, 3), "b": (jnp.array([-2.0]), jnp.float32(3))}


def flat(value):
    return np.asarray(jax.flatten_util.ravel_pytree(value)[0])


def test_scale_keeps_each_dtype_under_a_wider_factor():
    mixed = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2, jnp.float32)}
    scaled = jax.jit(tree.scale)(mixed, jnp.float32(0.5))
    assert jax.tree.map(lambda v: v.dtype, scaled) == jax.tree.map(
        lambda v: v.dtype, mixed
    )
    assert all((leaf == 0.5).all() for leaf in jax.tree.leaves(scaled))


def test_flat_names_are_unique_and_in_tree_order():
    named = tree.flat_names({"b": {"x": 1, "a": 2}, "a": [3, (4,)]})
    assert named == {"a.0": 3, "a.1.0": 4, "b.a": 2, "b.x": 1}
    assert list(named.values()) == jax.tree.leaves({"b": {"x": 1, "a": 2}, "a": [3, 4]})
