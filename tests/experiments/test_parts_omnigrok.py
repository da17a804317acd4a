"""Parts that Omnigrok's pages bring along: tasks, networks and optimisers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from experiments.made_up import ROOT

from grok_jax import launch, optim
from grok_jax.models.mlp import mlp
from grok_jax.rng import run_keys
from grok_jax.tasks.toy_addition import toy_addition


def page(name):
    return launch.load_experiment(str(ROOT / f"experiments/omnigrok/{name}.py"))[0]


def test_the_adder_decodes_the_sum_of_its_own_symbols():
    own = page("o5_full_trajectory")
    data, given = own.pairs(run_keys(0)), toy_addition(run_keys(0), cover=True)
    np.testing.assert_array_equal(data.train.y, given.train.y)
    np.testing.assert_array_equal(data.train.weight, given.train.weight)
    model = own.adder(width=5)
    params = model.init(jax.random.key(1), data.train.x)
    table, a, b = params["embed"], data.extras["a"], data.extras["b"]
    expected = mlp(width=5, layers=2, outputs=30).apply(
        params["decoder"], table[a] + table[b]
    )
    np.testing.assert_allclose(model.apply(params, data.train.x), expected, rtol=1e-5)


def stepped(tx, params):
    """The parameters after one step along a gradient of ones."""
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = tx.update(ones, tx.init(params), params)
    return optax.apply_updates(params, updates)


def test_the_representation_has_its_own_rate_and_no_decay():
    params = {"decoder": {"w": jnp.full(3, 2.0)}, "embed": jnp.full(3, 2.0)}
    settings = dict(learning_rate=0.1, representation_rate=0.01, weight_decay=0.5)
    found = stepped(page("o5_full_trajectory").both(**settings), params)
    np.testing.assert_allclose(
        found["decoder"]["w"], 2 - 0.1 * (1 + 0.5 * 2), rtol=1e-6
    )
    np.testing.assert_allclose(found["embed"], 2 - 0.01, rtol=1e-6)


def test_the_last_layer_has_its_own_rate_which_multiplies_its_decay():
    params = {f"layer_{i}": {"w": jnp.full(3, 2.0), "b": jnp.ones(1)} for i in range(3)}
    settings = dict(learning_rate=0.1, weight_decay=0.5)
    found = stepped(
        page("o2_phase_diagram").by_layer(last_rate=0.01, **settings), params
    )
    for layer, rate in (("layer_0", 0.1), ("layer_1", 0.1), ("layer_2", 0.01)):
        alone = stepped(
            optim.adamw(learning_rate=rate, weight_decay=0.5), params[layer]
        )
        jax.tree.map(np.testing.assert_allclose, found[layer], alone)
