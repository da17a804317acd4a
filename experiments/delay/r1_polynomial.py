"""R1 (ours): what each remedy is worth on a quadratic polynomial.

    python -m grok_jax.launch --config=experiments/delay/r1_polynomial.py \
        --workdir=runs/r1_polynomial

Settings at which the delay is long without a remedy; each remedy has 32 random trials
of its own settings (`grok_jax.delay.remedies`).
"""

from functools import partial

from grok_jax.delay import remedies, tasks

get_config = remedies.presets_of(
    dict(
        name="R1 polynomial",
        description="remedies with the same budget of trials",
        task=dict(name=tasks.polynomial_pool, input_dim=6, train_fraction=0.5),
        model=dict(name="mlp", width=64, activation="tanh", init_scale=2.0),
        loss=dict(name=tasks.explained),
        optimizer=dict(name="adamw", weight_decay=0.1),
        train=dict(steps=10_000, records=60, count_flops=True),
        grok=dict(kind="accuracy", train=0.95, test=0.8),
        stop=dict(name=tasks.generalised, train=0.95, test=0.8),
        engine=dict(keep_gb=0.0),
    ),
    weak=dict(
        model=dict(name="mlp", width=8, layers=1),
        leaf="layer_0.w",
        into="layer_0.w",
        steps=600,
    ),
    smoke=dict(
        task=dict(input_dim=4, pool=24, test_size=20), train=dict(steps=20, records=5)
    ),
)
claims = partial(remedies.claims, number="R1")
figure = remedies.figure
