"""C3 (ours): does the norm itself set the time? Modular addition.

    python -m grok_jax.launch --config=experiments/delay/c3_modular_norm.py \
        --workdir=runs/c3_modular_norm

The norm is moved and the function held: parameters s times as large with the output
scale s^-3, in networks that are homogeneous of degree 3. With Adam's rate times s and
the decay over s, the runs are the same but for rounding. With both as they are, the
decay takes as long to shrink the weights, and each step is a share 1/s of what it was:
a delay that waits for the norm stays, and one that waits for features grows with s.
Settings in the middle of those of D3.
"""

from functools import partial

from grok_jax.delay import cause, tasks

get_config = cause.rescaled(
    dict(
        name="C3 modular addition",
        description="norm moved, function held",
        task=dict(name=tasks.pairs, train_fraction=0.8),
        model=dict(name="fnn", embedding=32, width=64, layers=2),
        loss=dict(name="classification"),
        optimizer=dict(learning_rate=1e-2, weight_decay=1.0),
        train=dict(steps=10_000, records=60),
        grok=dict(kind="accuracy", train=0.95, test=0.8),
        stop=dict(name=tasks.generalised, train=0.95, test=0.8),
        engine=dict(keep_gb=0.0),
    ),
    init_scale=1.0,
    smoke=dict(task=dict(modulus=5), train=dict(steps=20, records=5)),
)
claims = partial(cause.claims_rescaled, number="C3")
figure = cause.figure_rescaled
