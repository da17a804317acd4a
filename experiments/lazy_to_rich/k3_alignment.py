"""K3 (Kumar et al. 2024, Fig. 3b): does worse initial alignment end in lower test loss?

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k3_alignment.py \
        --workdir=runs/k3_alignment

The epsilon sweep of `k3_laziness.py` at finite width and without a stop rule. The
paper's claim is about the final test loss, so it is read at the last step, and also at
the first record at which every run has fitted equally well.
"""

from functools import partial

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.pages import along, at, grid, ordered, presets, share, tested

EQUAL_FIT = 1e-4

get_config = presets(
    dict(
        name="K3 alignment",
        description="final test loss against epsilon, exact dynamics",
        task=dict(name="polynomial", input_dim=100, train_size=550),
        model=dict(name="committee_dynamics", width=500),
        optimizer=dict(name="gradient_descent", learning_rate=0.5, rule="lazy"),
        observe=dict(population_risk={}),
        train=dict(steps=60_000, records=150),
        sweep=dict(
            epsilon=(0.25, 0.5, 1.0, 2.0), output_scale=(0.25, 1.0), seed=(0, 1, 2)
        ),
    ),
    smoke=dict(
        task=dict(input_dim=12, train_size=70, test_size=50),
        model=dict(width=30),
        train=dict(steps=300, records=20),
        sweep=dict(epsilon=(0.25, 1.0), output_scale=(0.25, 1.0), seed=(0, 1)),
    ),
    paper=dict(sweep=dict(seed=tuple(range(10)))),
)


def claims(results: xr.Dataset) -> list[Claim]:
    risk, train = results.population_risk, share(results, "train_loss").train_loss
    falling = measures.first_step_falling
    fitted = at(risk, along("step", falling, train, threshold=EQUAL_FIT))
    return [
        tested(
            f"K3{letter} (alpha {alpha:g})",
            "Fig. 3b",
            f"smaller epsilon, lower test loss {where}",
            ordered("test loss", loss.sel(output_scale=alpha), "epsilon", "rises"),
        )
        for letter, where, loss in (
            ("f", "at the last step", risk.isel(step=-1)),
            ("g", f"where train loss is {EQUAL_FIT:g} of its start", fitted),
        )
        for alpha in results.output_scale.values
    ]


def figure(results: xr.Dataset) -> Figure:
    losses = partial(
        plot.family,
        over="epsilon",
        symbol="ε",
        kind="population_risk",
        dashed="train_loss",
        log=True,
    )
    return grid(results, "output_scale", "α = {:g}", losses)
