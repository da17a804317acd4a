"""K1 (Kumar et al. 2024, Fig. 1): grokking without regularisation, with rising norm.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k1_grokking.py \
        --workdir=runs/k1

A committee machine by full-batch gradient descent, and beside it (axis `linearized`)
its linearisation at step 0, trained step by step and in closed form. The rise of the
test loss is that of the exact population risk.
"""

from functools import partial

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import every, median, presets, rise, sheet, tested, times

get_config = presets(
    dict(
        name="K1 grokking",
        description="the committee machine and its linearised twin",
        task=dict(name="polynomial", input_dim=100, train_size=450),
        model=dict(name="committee", width=500, epsilon=0.25),
        optimizer=dict(name="gradient_descent", learning_rate=1.0, rule="lazy"),
        observe=dict(
            norms={}, population_risk={}, kernel_alignment=dict(every=3, points=400)
        ),
        reference=dict(lazy=True),
        train=dict(steps=20_000, records=120),
        sweep=dict(linearized=(False, True), seed=(0, 1, 2)),
    ),
    smoke=dict(
        task=dict(input_dim=12, train_size=60, test_size=50),
        model=dict(width=30),
        train=dict(steps=300, records=20),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(train=dict(steps=60_000), sweep=dict(seed=tuple(range(10)))),
)


def claims(results: xr.Dataset) -> list[Claim]:
    network, linear = results.sel(linearized=False), results.sel(linearized=True)
    risk, norm = network.population_risk, network.weight_norm
    peak_step = risk.step[risk.argmax("step")]
    kernel = network.kernel_regression_loss
    end, plateau = (runs.test_loss.isel(step=-1) / kernel for runs in (network, linear))
    cka = network.cka_centered_test.dropna("step")
    gap = abs(linear.test_loss - linear.lazy_test_loss).max("step")
    gap = gap / linear.test_loss.max("step")
    return [
        tested(
            "K1a",
            "Fig. 1b",
            "test loss rises, then falls long after train loss",
            every("peak / start", rise(risk), ">", 1.02),
            every("peak at step", peak_step, ">", 10),
            every("t_test", network.t_test, ">=", times(3, "t_train", network.t_train)),
        ),
        tested(
            "K1b",
            "Fig. 1c",
            "the parameter norm increases",
            every("end / start", norm.isel(step=-1) / norm.isel(step=0), ">", 1.05),
        ),
        tested(
            "K1c",
            "Fig. 1b",
            "the linearised network plateaus at the kernel-regression error of K0",
            every("|final test loss / error - 1|", abs(plateau - 1), "<", 0.05),
        ),
        tested(
            "K1d",
            "Fig. 1b",
            "the network ends far below the kernel-regression error",
            every("final test loss / error", end, "<", 0.25),
        ),
        tested(
            "K1e",
            "Fig. 1c",
            "the kernel aligns with the task (centred CKA on the test set)",
            every("end / start", cka.isel(step=-1) / cka.isel(step=0), ">", 1.5),
        ),
        tested(
            "K1f",
            "Fig. 1b",
            "the linearised network trained step by step is its own closed form",
            every("largest gap of the test loss / its maximum", gap, "<", 1e-3),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    return sheet(
        ("(a) grokking, and the linearised network", losses, results),
        ("(b) norm and alignment rise", rises, results.sel(linearized=False)),
    )


def losses(axis: Axes, results: xr.Dataset) -> None:
    draw = partial(plot.losses, axis, test="population_risk")
    draw(results.sel(linearized=False))
    draw(results.sel(linearized=True), style="--", suffix=", linearised")
    kernel = median(results.kernel_regression_loss.sel(linearized=False))
    plot.levels(axis, kernel, label="kernel regression with K0", color="black")


def rises(axis: Axes, network: xr.Dataset) -> None:
    plot.curves(axis, network, "weight_norm", color="tab:orange", share=True)
    plot.log_steps(axis)
    axis.set_ylabel("weight norm / start")
    other = axis.twinx()
    other.grid(False)
    plot.curves(other, network, "cka_centered_test", color="0.4", style="--")
    plot.curves(other, network, "cka_test", color="0.7", style=":")
    other.set_ylabel("CKA with the task, test set\n(dashed: centred, dotted: raw)")
