"""What a run on XOR clusters records of its weights."""

import numpy as np
import pytest

from grok_jax import config, runner

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
    engine = runner.Engine(mode="map")
    results = runner.Sweeper(plan, engine, say=lambda _: None).run()
    ratio = results.norm_ratio.transpose("noise", "step")
    np.testing.assert_array_equal(ratio[0, 0], ratio[1, 0])  # the same draw
    assert (ratio[0] != ratio[1]).any()
    assert ("directions" in results) == kept
    if kept:
        values = results.directions.transpose("noise", "step", ...)
        assert values.shape[2:] == (3,)
        assert ((values >= 0.7071) & (values <= 1.0001)).all()
