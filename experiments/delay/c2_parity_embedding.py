"""C2 (ours): is the embedding or the norm the cause? Sparse parity.

    python -m grok_jax.launch --config=experiments/delay/c2_parity_embedding.py \
        --workdir=runs/c2_parity_embedding

The embedding is moved and the norm held: on spheres of five radii, the first layer as
drawn, that of a smaller network that has generalised, or that of the same network
before it was trained, all at the same norm. And the norm is moved and the first layer
held. Settings in the middle of those of D5; the radii, and the weak network, are such
that runs of other seeds fitted and generalised.
"""

from functools import partial

from grok_jax.delay import cause, evidence, tasks

get_config = cause.on_spheres(
    dict(
        name="C2 sparse parity",
        description="embedding moved, norm held",
        task=dict(name=tasks.parity_pool, bits=14, train_fraction=0.6),
        model=dict(name="fnn", embedding=0, width=32, layers=3),
        loss=dict(name="binary_cross_entropy"),
        optimizer=dict(learning_rate=5e-3),
        observe=dict(evidence=dict(name=evidence.evidence, leaf="layer_0", every=100)),
        train=dict(steps=10_000, records=60),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        stop=dict(name=tasks.generalised, train=0.95, test=0.95),
        engine=dict(keep_gb=0.0),
    ),
    weak=dict(
        leaf="layer_0",
        into="layer_0",
        model=dict(name="fnn", embedding=0, width=16, layers=3),
        optimizer=dict(name="adamw", learning_rate=5e-3, weight_decay=0.3),
        steps=3000,
        accuracy=0.95,
    ),
    radii=(1.6, 2.0, 2.6, 3.3, 4.2),
    smoke=dict(
        task=dict(bits=6, pool=24, test_size=20), train=dict(steps=20, records=5)
    ),
)
claims = partial(cause.claims_on_spheres, number="C2")
figure = cause.figure_on_spheres
