"""K3 (Kumar et al. 2024, Fig. 3b): does worse initial alignment end in lower test loss?

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k3_alignment.py \
        --workdir=runs/k3_alignment

The epsilon sweep of k3_laziness run to the paper's 60,000 steps without a stop rule,
by the exact dynamics of the N = 500 committee, at two output scales. The paper's claim
is about the final test loss, so it is read at the last step, and also at the first
record at which train loss is below 1e-4 of its start (equal fit).

`cpu`: epsilon 1/4..2, alpha 1/4 and 1, 3 seeds; about three minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.engine.config import choose_preset, make_config

EQUAL_FIT = 1e-4


def get_config(preset: str = "cpu"):
    base = dict(
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
    )
    smoke = dict(
        task=dict(input_dim=12, train_size=70, test_size=50),
        model=dict(width=30),
        train=dict(steps=300, records=20),
        sweep=dict(epsilon=(0.25, 1.0), output_scale=(0.25, 1.0), seed=(0, 1)),
    )
    paper = dict(sweep=dict(seed=tuple(range(10))))
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def risk_at_equal_fit(results: xr.Dataset) -> xr.DataArray:
    """Population risk when train loss first is below EQUAL_FIT of its start."""
    train = results.train_loss.transpose(..., "step")
    reached = measures.first_step_falling(
        results.step.values, train.values, EQUAL_FIT * train.isel(step=0).values
    )
    when = train.isel(step=0, drop=True).copy(data=reached)
    at = results.population_risk.sel(step=when.fillna(0).astype(int))
    return at.where(when.notnull()).drop_vars("step")


def claims(results: xr.Dataset) -> list[Claim]:
    out = []
    readings = {
        "at the last step": results.population_risk.isel(step=-1),
        f"where train loss is {EQUAL_FIT:g} of its start": risk_at_equal_fit(results),
    }
    for letter, (how, risk) in zip("fg", readings.items(), strict=True):
        for alpha in results.output_scale.values:
            final = risk.sel(output_scale=alpha).transpose("seed", "epsilon")
            grows = bool((np.diff(final.values, axis=1) > 0).all())
            out.append(
                Claim(
                    f"K3{letter} (alpha {alpha:g})",
                    "3b",
                    f"smaller epsilon, lower test loss {how}",
                    "grows with epsilon, for every seed",
                    {
                        f"epsilon {e:g}": v
                        for e, v in zip(
                            results.epsilon.values,
                            final.median("seed").values,
                            strict=True,
                        )
                    },
                    grows,
                )
            )
    return out


def figure(results: xr.Dataset) -> Figure:
    alphas = results.output_scale.values
    drawing, axes = plot.panels(1, len(alphas), 4.4, 3.4)
    colors = plot.family_colors(results.sizes["epsilon"])
    for axis, alpha in zip(axes[0], alphas, strict=True):
        for epsilon, color in zip(results.epsilon.values, colors, strict=True):
            run = results.sel(epsilon=epsilon, output_scale=alpha)
            plot.curves(axis, run, "train_loss", color=color, style="--")
            plot.curves(
                axis, run, "population_risk", color=color, label=f"ε = {epsilon:g}"
            )
        plot.log_steps(axis)
        axis.set_yscale("log")
        axis.set_title(f"α = {alpha:g}")
        axis.set_ylabel("loss (dashed: train, solid: test)")
        axis.legend(fontsize=7)
    return drawing
