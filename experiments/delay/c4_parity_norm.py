"""C4 (ours): does the norm itself set the time? Sparse parity.

    python -m grok_jax.launch --config=experiments/delay/c4_parity_norm.py \
        --workdir=runs/c4_parity_norm

The norm is moved and the function held: parameters s times as large with the output
scale s^-3, in networks that are homogeneous of degree 3. With Adam's rate times s and
the decay over s, the runs are the same but for rounding. With both as they are, the
decay takes as long to shrink the weights, and each step is a share 1/s of what it was:
a delay that waits for the norm stays, and one that waits for features grows with s.
Settings in the middle of those of D5.
"""

from functools import partial

from grok_jax.delay import cause, tasks

get_config = cause.rescaled(
    dict(
        name="C4 sparse parity",
        description="norm moved, function held",
        task=dict(name=tasks.parity_pool, bits=14, train_fraction=0.6),
        model=dict(name="fnn", embedding=0, width=32, layers=3),
        loss=dict(name="binary_cross_entropy"),
        optimizer=dict(learning_rate=5e-3, weight_decay=0.3),
        train=dict(steps=10_000, records=60),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        stop=dict(name=tasks.generalised, train=0.95, test=0.95),
        engine=dict(keep_gb=0.0),
    ),
    init_scale=1.6,
    smoke=dict(
        task=dict(bits=6, pool=24, test_size=20), train=dict(steps=20, records=5)
    ),
)
claims = partial(cause.claims_rescaled, number="C4")
figure = cause.figure_rescaled
