"""D1 (ours): when does a network that fits a quadratic polynomial generalise?

    python -m grok_jax.launch --config=experiments/delay/d1_polynomial.py \
        --workdir=runs/d1_polynomial

One of the seven tasks of the tournament (`grok_jax.delay`). The settings of its runs
are drawn over ranges that a pilot has shown to hold all ends: generalisation with the
training, later, or not within the steps.
"""

from functools import partial

from grok_jax.delay import contest, evidence, tasks
from grok_jax.delay.design import Choice, Linear, Log

get_config = contest.presets_of(
    dict(
        name="D1 polynomial",
        description="when runs on a quadratic polynomial generalise",
        task=dict(name=tasks.polynomial_pool, input_dim=6),
        model=dict(name="mlp", width=32, activation="tanh"),
        loss=dict(name=tasks.explained),
        optimizer=dict(name=tasks.decayed, learning_rate=5e-3),
        observe=dict(evidence=dict(name=evidence.evidence, above=0.5)),
        train=dict(steps=10_000, records=60),
        grok=dict(kind="accuracy", train=0.95, test=0.8),
        stop=dict(name=tasks.generalised, train=0.95, test=0.8),
        engine=dict(keep_gb=0.0),
    ),
    {
        "model.output_scale": Log(0.1, 10),
        "model.init_scale": Log(0.5, 5),
        "optimizer.weight_decay": Log(0.03, 3, zeros=1 / 8),
        "optimizer.learning_rate": Log(1e-3, 2e-2),
        "task.train_fraction": Linear(0.2, 1.0),
        "model.width": Choice((16, 32, 64)),
        "model.layers": Choice((1, 2)),
        "optimizer.method": Choice(("adamw", "momentum")),
    },
    smoke=dict(
        task=dict(input_dim=4, pool=24, test_size=20), train=dict(steps=20, records=5)
    ),
)
claims = partial(contest.claims, number="D1")
figure = contest.figure
