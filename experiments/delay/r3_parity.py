"""R3 (ours): what each remedy is worth on a sparse parity.

    python -m grok_jax.launch --config=experiments/delay/r3_parity.py \
        --workdir=runs/r3_parity

Settings at which the delay is long without a remedy; each remedy has 32 random trials
of its own settings (`grok_jax.delay.remedies`).
"""

from functools import partial

from grok_jax.delay import remedies, tasks

get_config = remedies.presets_of(
    dict(
        name="R3 sparse parity",
        description="remedies with the same budget of trials",
        task=dict(name=tasks.parity_pool, bits=14, train_fraction=0.4),
        model=dict(name="mlp", width=64, init_scale=2.0, output_scale=3.0),
        loss=dict(name="binary_cross_entropy"),
        optimizer=dict(name="adamw", weight_decay=0.1),
        train=dict(steps=10_000, records=60, count_flops=True),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        stop=dict(name=tasks.generalised, train=0.95, test=0.95),
        engine=dict(keep_gb=0.0),
    ),
    weak=dict(
        model=dict(name="mlp", width=8, layers=1),
        leaf="layer_0.w",
        into="layer_0.w",
        steps=600,
    ),
    smoke=dict(
        task=dict(bits=6, pool=24, test_size=20), train=dict(steps=20, records=5)
    ),
)
claims = partial(remedies.claims, number="R3")
figure = remedies.figure
