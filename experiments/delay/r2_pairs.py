"""R2 (ours): what each remedy is worth on modular addition.

    python -m grok_jax.launch --config=experiments/delay/r2_pairs.py \
        --workdir=runs/r2_pairs

Settings at which the delay is long without a remedy; each remedy has 32 random trials
of its own settings (`grok_jax.delay.remedies`).
"""

from functools import partial

from grok_jax.delay import remedies, tasks

get_config = remedies.presets_of(
    dict(
        name="R2 modular addition",
        description="remedies with the same budget of trials",
        task=dict(name=tasks.pairs, train_fraction=0.7),
        model=dict(name="fnn", embedding=64, width=64, layers=2, init_scale=2.0),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw", weight_decay=0.1),
        train=dict(steps=10_000, records=60, count_flops=True),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        stop=dict(name=tasks.generalised, train=0.95, test=0.95),
        engine=dict(keep_gb=0.0),
    ),
    weak=dict(
        model=dict(name="fnn", embedding=8, width=16, layers=2),
        leaf="embed",
        into="embed",
        steps=600,
    ),
    logits=True,
    smoke=dict(task=dict(modulus=5), train=dict(steps=20, records=5)),
)
claims = partial(remedies.claims, number="R2")
figure = remedies.figure
