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


def test_the_one_step_is_of_the_network_as_it_is_at_a_record():
    """At the rate that is asked for, and at the largest, sqrt(m) v_init."""
    own = dict(target_width=64, v_init=0.25, step_size=0.5)
    layer = dict(
        model=dict(width=3),
        observe=dict(xor_one_step=own),
        train=dict(steps=0),
        sweep=dict(draw=(0, 5)),
    )
    plan = config.resolve(config.make_config(LAYER, layer)).plan
    results = runner.Sweeper(plan, MAP, say=lambda _: None).run()
    data = experiment.make_dataset(plan.experiment)
    params = experiment.make(plan.experiment).init(data).params
    for draw in (0, 5):
        for prefix, rate in (("", 0.5), ("largest_", 2.0)):
            expected = xor.one_step_accuracy(
                jax.random.key(draw),
                params,
                data,
                noise=0.1,
                width=64,
                v_init=0.25,
                learning_rate=rate,
            )
            for name in ("train_accuracy", "test_accuracy"):
                found = results[f"{prefix}one_step_{name}"].sel(draw=draw, step=0)
                np.testing.assert_allclose(found, expected[name], rtol=1e-6)


@pytest.mark.parametrize("name", ["xor_norms", "xor_one_step"])
def test_what_is_seen_of_clusters_needs_their_network(name):
    layer = dict(observe={name: {}}, train=dict(steps=1, records=1))
    with pytest.raises(SettingError, match=rf"{name} needs model.name cluster_net"):
        programs.check_data(config.resolve(config.make_config(layer)).plan)
