"""C1 (ours): is the embedding or the norm the cause? Modular addition.

    python -m grok_jax.launch --config=experiments/delay/c1_modular_embedding.py \
        --workdir=runs/c1_modular_embedding

The embedding is moved and the norm held: on spheres of five radii, the first layer as
drawn, that of a smaller network that has generalised, or that of the same network
before it was trained, all at the same norm. And the norm is moved and the first layer
held. Settings in the middle of those of D3; the radii, and the weak network, are such
that runs of other seeds fitted and generalised.
"""

from functools import partial

from grok_jax.delay import cause, evidence, tasks

get_config = cause.on_spheres(
    dict(
        name="C1 modular addition",
        description="embedding moved, norm held",
        task=dict(name=tasks.pairs, train_fraction=0.8),
        model=dict(name="fnn", embedding=32, width=64, layers=2),
        loss=dict(name="classification"),
        optimizer=dict(learning_rate=1e-2),
        observe=dict(evidence=dict(name=evidence.evidence, leaf="embed", every=100)),
        train=dict(steps=10_000, records=60),
        grok=dict(kind="accuracy", train=0.95, test=0.8),
        stop=dict(name=tasks.generalised, train=0.95, test=0.8),
        engine=dict(keep_gb=0.0),
    ),
    weak=dict(
        leaf="embed",
        into="embed",
        model=dict(name="fnn", embedding=16, width=64, layers=2),
        optimizer=dict(name="adamw", learning_rate=1e-2, weight_decay=1.0),
        steps=3000,
        accuracy=0.95,
    ),
    radii=(2.5, 3.2, 4.0, 5.0, 6.0),
    smoke=dict(task=dict(modulus=5), train=dict(steps=20, records=5)),
)
claims = partial(cause.claims_on_spheres, number="C1")
figure = cause.figure_on_spheres
