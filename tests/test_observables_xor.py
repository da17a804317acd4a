"""What a run on XOR clusters records of its weights."""

import jax
import numpy as np
import pytest

from grok_jax import experiment
from grok_jax.engine import config, planning, programs, runner
from grok_jax.settings import SettingError
from grok_jax.theory import xor

MAP = planning.Engine(mode="map")
LAYER = dict(
    task=dict(name="xor_clusters", dimension=40, train_size=12, test_size=8),
    model=dict(name="cluster_net", noise=0.1),
    loss=dict(name="exponential"),
    optimizer=dict(name="gradient_descent", rule="plain"),
    observe=dict(xor_norms={}),
    train=dict(steps=4, records=2),
)


@pytest.mark.parametrize(("width", "kept"), [(3, True), (9, False)])
def test_a_sweep_records_the_ratio_and_the_directions_of_few_neurons(width, kept):
    layer = dict(model=dict(width=width), sweep={"noise": (0.0, 0.5)})
    plan = config.resolve(config.make_config(LAYER, layer)).plan
    results = runner.Sweeper(plan, MAP, say=lambda _: None).run()
    ratio = results.norm_ratio.transpose("noise", "step")
    np.testing.assert_array_equal(ratio[0, 0], ratio[1, 0])  # the same draw
    assert (ratio[0] != ratio[1]).any()
    assert ("directions" in results) == kept
    if kept:
        values = results.directions.transpose("noise", "step", ...)
        assert values.shape[2:] == (3,)
        assert ((values >= 0.7071) & (values <= 1.0001)).all()


def run_of(layer):
    plan = config.resolve(config.make_config(LAYER, layer)).plan
    results = runner.Sweeper(plan, MAP, say=lambda _: None).run()
    data = experiment.make_dataset(plan.experiment)
    return results.sel(step=0), data, experiment.make(plan.experiment).init(data).params


def test_the_one_step_is_of_the_network_as_it_is_at_a_record():
    """At the rate that is asked for and the theorem's, on its own and on fresh data."""
    own = dict(target_width=64, v_init=0.25, step_size=0.5, draws=2)
    layer = dict(
        task=dict(fresh_size=12),
        model=dict(width=3),
        observe=dict(xor_one_step=own),
        train=dict(steps=0),
    )
    results, data, params = run_of(layer)
    x, y = data.extras["fresh_x"], data.extras["fresh_y"]
    fresh = data._replace(train=data.train._replace(x=x, y=y))
    v = np.log(12) ** -1.5

    @jax.jit
    def transferred(key, u, of, size, rate):
        return xor.transferred_accuracy(
            key, u, of, noise=0.1, width=64, v_init=size, learning_rate=rate
        )

    for place, key in enumerate(jax.random.split(jax.random.key(0), 2)):
        for prefix, of, u, size, rate in (
            ("", data, params, 0.25, 0.5),
            ("largest_", data, params, 0.25, 2.0),
            ("fresh_small_", fresh, params, v, 8 * v),
            ("fresh_unit_", fresh, xor.unit_signal(params), v, 8 * v),
        ):
            expected = transferred(key, u, of, size, rate)
            for name in ("train_accuracy", "test_accuracy"):
                found = results[f"{prefix}one_step_{name}"][place]
                np.testing.assert_allclose(found, expected[name][1], rtol=1e-6)


def test_the_target_and_the_embedding_are_those_of_the_network_at_a_record():
    own = dict(target_width=64, steps=3, draw=5)
    layer = dict(
        model=dict(width=3),
        observe=dict(xor_target=own, xor_embedding={}),
        train=dict(steps=0),
    )
    results, data, params = run_of(layer)
    expected = xor.transferred_accuracy(
        jax.random.key(5),
        params,
        data,
        noise=0.1,
        width=64,
        v_init=0.4,
        learning_rate=2.0,
        steps=3,
    )
    for name, values in expected.items():
        np.testing.assert_allclose(results[f"target_{name}"], values, rtol=1e-6)
    z = xor.project(params, data.test.x, 0.1)
    np.testing.assert_allclose(results.embedding, z, rtol=1e-5)
    signs = np.asarray(data.test.x[:, :2], int)
    np.testing.assert_array_equal(results.cluster, (signs + 1) @ [1, 0.5])


NEED = ["xor_norms", "xor_embedding", "xor_target", "xor_one_step"]


@pytest.mark.parametrize("name", NEED)
def test_what_is_seen_of_clusters_needs_their_network(name):
    layer = dict(observe={name: {}}, train=dict(steps=1, records=1))
    with pytest.raises(SettingError, match=rf"{name} needs model.name cluster_net"):
        programs.check_data(config.resolve(config.make_config(layer)).plan)
