"""D3 (ours): when does a network that fits modular sums or products generalise?

    python -m grok_jax.launch --config=experiments/delay/d3_pairs.py \
        --workdir=runs/d3_pairs

One of the seven tasks of the tournament (`grok_jax.delay`). The settings of its runs
are drawn over ranges that a pilot has shown to hold all ends: generalisation with the
training, later, or not within the steps.
"""

from functools import partial

from grok_jax.delay import contest, evidence, tasks
from grok_jax.delay.design import Choice, Linear, Log

get_config = contest.presets_of(
    dict(
        name="D3 modular arithmetic",
        description="when runs on modular arithmetic generalise",
        task=dict(name=tasks.pairs),
        model=dict(name="fnn", embedding=32, width=64, layers=2),
        loss=dict(name="classification"),
        optimizer=dict(name=tasks.decayed, learning_rate=5e-3),
        observe=dict(
            evidence=dict(name=evidence.evidence, leaf="embed", tokens=23, above=0.5)
        ),
        train=dict(steps=10_000, records=60),
        grok=dict(kind="accuracy", train=0.95, test=0.8),
        stop=dict(name=tasks.generalised, train=0.95, test=0.8),
        engine=dict(keep_gb=0.0),
    ),
    {
        "model.output_scale": Log(0.1, 3),
        "model.init_scale": Log(0.3, 3),
        "optimizer.weight_decay": Log(0.1, 10, zeros=1 / 8),
        "optimizer.learning_rate": Log(3e-3, 3e-2),
        "task.train_fraction": Linear(0.6, 0.97),
        "model.embedding": Choice((8, 32)),
        "model.width": Choice((16, 64)),
        "model.layers": Choice((2, 3)),
        "task.operation": Choice(("addition", "multiplication")),
    },
    runs=512,
    smoke=dict(
        task=dict(modulus=5),
        observe=dict(evidence=dict(tokens=5)),
        train=dict(steps=20, records=5),
    ),
)
claims = partial(contest.claims, number="D3")
figure = contest.figure
