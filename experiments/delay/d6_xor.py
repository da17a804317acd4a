"""D6 (ours): when does a network that fits XOR clusters generalise?

    python -m grok_jax.launch --config=experiments/delay/d6_xor.py \
        --workdir=runs/d6_xor

One of the seven tasks of the tournament (`grok_jax.delay`). The settings of its runs
are drawn over ranges that a pilot has shown to hold all ends: generalisation with the
training, later, or not within the steps.
"""

from functools import partial

from grok_jax.delay import contest, evidence, tasks
from grok_jax.delay.design import Choice, Linear, Log

get_config = contest.presets_of(
    dict(
        name="D6 XOR clusters",
        description="when runs on XOR clusters generalise",
        task=dict(name=tasks.xor_pool),
        model=dict(name="mlp", width=64),
        loss=dict(name="binary_cross_entropy"),
        optimizer=dict(name=tasks.decayed, learning_rate=5e-3),
        observe=dict(evidence=dict(name=evidence.evidence, above=0.5)),
        train=dict(steps=6_000, records=60),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        stop=dict(name=tasks.generalised, train=0.95, test=0.95),
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
        task=dict(dimension=8, pool=24, test_size=20), train=dict(steps=20, records=5)
    ),
)
claims = partial(contest.claims, number="D6")
figure = contest.figure
