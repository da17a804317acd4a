"""K2 (Kumar et al. 2024, Figs. 2 and 16): modular addition without weight decay.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k2_modular.py \
        --workdir=runs/k2

f = (alpha / N) V (W x)^2 on one-hot pairs and targets, by gradient descent at learning
rate N / alpha^2. The norm is that of all parameters. The NTK on some test pairs is
stored along training. In the loss (K2b), t_train and t_test are the steps at which
train loss is below 5% of its start and test loss below 10% of its peak.
"""

from functools import partial

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.kernel_history import kernel_history
from grok_jax.pages import (
    OURS,
    along,
    at,
    by_loss,
    every,
    ordered,
    presets,
    sheet,
    tested,
    times,
)

get_config = presets(
    dict(
        name="K2 modular addition",
        description="two layers, plain gradient descent, no weight decay",
        task=dict(name="modular", modulus=23, train_fraction=0.9),
        model=dict(name="quadratic", width=100),
        loss=dict(name="classification", error="squared_error"),
        optimizer=dict(name="gradient_descent", learning_rate=1.0, rule="lazy"),
        observe=dict(norms={}, kernel_snapshots=dict(every=4, points=48)),
        train=dict(steps=40_000, records=120),
        grok=dict(kind="accuracy", train=0.95, test=0.95),
        sweep=dict(output_scale=(0.25, 0.5, 1.0, 2.0, 4.0), seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(modulus=5),
        model=dict(width=30),
        observe=dict(kernel_snapshots=dict(points=2)),
        train=dict(steps=200, records=20),
        sweep=dict(output_scale=(0.5, 1.0), seed=(0, 1)),
    ),
    paper=dict(
        train=dict(steps=100_000),
        sweep=dict(
            output_scale=(0.125, 0.25, 0.5, 1.0, 2.0, 4.0), seed=tuple(range(10))
        ),
    ),
)


def kernel(runs: xr.Dataset) -> xr.Dataset:
    """The measures of `kernel_history`, [seed, step] each."""
    ntk, targets = (
        runs[name].transpose("seed", "step", ...) for name in ("ntk", "ntk_targets")
    )
    found = kernel_history(ntk, targets)._asdict()
    measured = {name: (ntk.dims[:2], values) for name, values in found.items()}
    return xr.Dataset(measured, {"step": runs.step})


def claims(results: xr.Dataset) -> list[Claim]:
    one = results.sel(output_scale=1.0)
    loss, norm = by_loss(one), one.weight_norm
    before, after = (at(norm, t.fillna(0)) for t in (one.t_train, one.t_test))
    gap = results.t_test - results.t_train
    small, large = (gap.isel(output_scale=place) for place in (0, -1))
    half_way = along("step", measures.half_way, kernel(one).distance)
    return [
        tested(
            "K2a",
            "Fig. 2a, 16",
            "alpha = 1: test accuracy comes long after train accuracy",
            every("t_test", one.t_test, ">=", times(2, "t_train", one.t_train)),
        ),
        tested(
            "K2b",
            "Fig. 2b, 16",
            "alpha = 1: and so in the loss",
            every("t_test", loss.t_test, ">", times(1, "t_train", loss.t_train)),
        ),
        tested(
            "K2c",
            "Fig. 2a",
            "alpha = 1: the weight norm rises from memorising to generalising",
            every("norm at t_test / at t_train", after / before, ">", 1.02),
        ),
        tested(
            "K2d",
            "Fig. 2a",
            "alpha = 1: the weight norm is larger at the end than at the start",
            every("end / start", norm.isel(step=-1) / norm.isel(step=0), ">", 1),
        ),
        tested(
            "K2e",
            "Fig. 2c",
            "the output scale moves the delay continuously",
            ordered("t_test - t_train", gap, "output_scale", "rises"),
            every("at the largest", large, ">=", times(5, "at the smallest", small)),
        ),
        tested(
            "K2f",
            OURS,
            "alpha = 1: 1 - cos(K_t, K_0) is half-way to its end before test accuracy "
            "is at 95%",
            every("that step", half_way, "<", times(1, "t_test", one.t_test)),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    one = results.sel(output_scale=1.0)
    scales = partial(plot.family, over="output_scale", symbol="α")
    return sheet(
        ("(a) accuracy and norm, α = 1", accuracy_and_norm, one),
        ("(b) loss, α = 1", plot.losses, one),
        ("(c) output scale α", scales, results),
        ("(d) the kernel, α = 1", kernel_moves, kernel(one)),
    )


def accuracy_and_norm(axis: Axes, runs: xr.Dataset) -> None:
    plot.accuracies(axis, runs)
    norm = axis.twinx()
    norm.grid(False)
    plot.curves(norm, runs, "weight_norm", color="tab:orange", style="--")
    norm.set_ylabel("weight norm (dashed)")


def kernel_moves(axis: Axes, history: xr.Dataset) -> None:
    plot.curves(axis, history, "distance", label="1 - cos(K, K0)")
    plot.curves(axis, history, "velocity", label="velocity")
    plot.curves(axis, history, "top_power", label="target power in top 10")
    plot.log_steps(axis)
    axis.legend(fontsize=7)
