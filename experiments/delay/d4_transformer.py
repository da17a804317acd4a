"""D4 (ours): when does a transformer that fits modular sums or products generalise?

    python -m grok_jax.launch --config=experiments/delay/d4_transformer.py \
        --workdir=runs/d4_transformer

One of the seven tasks of the tournament (`grok_jax.delay`). The settings of its runs
are drawn over ranges that a pilot has shown to hold all ends: generalisation with the
training, later, or not within the steps.
"""

from functools import partial

from grok_jax.delay import contest, evidence, tasks
from grok_jax.delay.design import Choice, Linear, Log

get_config = contest.presets_of(
    dict(
        name="D4 transformer",
        description="when runs on modular arithmetic by a transformer generalise",
        task=dict(name=tasks.token_pairs),
        model=dict(name="transformer", width=32, heads=2, head_width=16, mlp_width=64),
        loss=dict(name="classification"),
        optimizer=dict(name=tasks.decayed, learning_rate=5e-3),
        observe=dict(
            evidence=dict(name=evidence.evidence, leaf="embed", tokens=17, above=0.5)
        ),
        train=dict(steps=6_000, records=60),
        grok=dict(kind="accuracy", train=0.95, test=0.8),
        stop=dict(name=tasks.generalised, train=0.95, test=0.8),
        engine=dict(keep_gb=0.0),
    ),
    {
        "model.output_scale": Log(0.1, 3),
        "model.init_scale": Log(0.3, 3),
        "optimizer.weight_decay": Log(0.1, 4, zeros=1 / 8),
        "optimizer.learning_rate": Log(3e-3, 3e-2),
        "task.train_fraction": Linear(0.5, 0.95),
        "model.width": Choice((16, 32)),
        "model.mlp_width": Choice((32, 128)),
        "task.operation": Choice(("addition", "multiplication")),
    },
    runs=256,
    smoke=dict(
        task=dict(modulus=5),
        observe=dict(evidence=dict(tokens=5)),
        train=dict(steps=20, records=5),
    ),
)
claims = partial(contest.claims, number="D4")
figure = contest.figure
