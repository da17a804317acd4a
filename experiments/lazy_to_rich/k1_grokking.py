"""K1 (Kumar et al. 2024, Fig. 1): grokking without regularisation, with rising norm.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k1_grokking.py \
        --workdir=runs/k1

The N = 500 committee machine by full-batch gradient descent, P = 450, alpha = 1,
eta0 = 1, epsilon = 0.25; its linearised twin trains beside it (axis `linearized`), and
the closed form of the twin is drawn with it. Test loss is the exact population risk.

`cpu`: 3 seeds, 20,000 steps; about three minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim, spread
from grok_jax.engine.config import choose_preset, make_config


def get_config(preset: str = "cpu"):
    base = dict(
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
    )
    smoke = dict(
        task=dict(input_dim=12, train_size=60, test_size=50),
        model=dict(width=30),
        train=dict(steps=300, records=20),
        sweep=dict(seed=(0, 1)),
    )
    paper = dict(
        train=dict(steps=60_000),
        sweep=dict(seed=tuple(range(10)), linearized=(False, True)),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def claims(results: xr.Dataset) -> list[Claim]:
    net, twin = results.sel(linearized=False), results.sel(linearized=True)
    risk, norm = net.population_risk, net.weight_norm
    bump = risk.max("step") / risk.isel(step=0)
    peak_step = results.step[risk.argmax("step")]
    ratio = net.t_test / net.t_train
    growth = norm.isel(step=-1) / norm.isel(step=0)
    kernel = net.kernel_regression_loss
    plateau = twin.test_loss.isel(step=-1) / kernel
    beats = net.test_loss.isel(step=-1) / kernel
    cka = net.cka_centered_test.dropna("step")
    rise = cka.isel(step=-1) / cka.isel(step=0)
    twin_gap = abs(twin.test_loss - twin.lazy_test_loss).max(
        "step"
    ) / twin.test_loss.max("step")
    return [
        Claim(
            "K1a",
            "1b",
            "test loss rises, then falls long after train loss",
            "peak > 1.02 of start after step 10 and t_test >= 3 t_train, every seed",
            {
                "peak / start": spread(bump),
                "peak at step": spread(peak_step),
                "t_train": net.t_train.values,
                "t_test": net.t_test.values,
            },
            bool((bump > 1.02).all() and (peak_step > 10).all() and (ratio >= 3).all()),
        ),
        Claim(
            "K1b",
            "1c",
            "the parameter norm increases",
            "end / start > 1.05, every seed",
            spread(growth),
            bool((growth > 1.05).all()),
        ),
        Claim(
            "K1c",
            "1b",
            "the linearised network plateaus at the kernel-regression error of K0",
            "final test loss within 5% of it, every seed",
            spread(plateau),
            bool((abs(plateau - 1) < 0.05).all()),
        ),
        Claim(
            "K1d",
            "1b",
            "the network ends far below the kernel-regression error",
            "final test loss < 0.25 of it, every seed",
            spread(beats),
            bool((beats < 0.25).all()),
        ),
        Claim(
            "K1e",
            "1c",
            "the kernel aligns with the task (centred CKA on the test set)",
            "end / start > 1.5, every seed",
            spread(rise),
            bool((rise > 1.5).all()),
        ),
        Claim(
            "K1f",
            "1b",
            "the twin trained step by step is its own closed form",
            "largest gap of the test loss < 1e-3 of its maximum, every seed",
            spread(twin_gap),
            bool((twin_gap < 1e-3).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(1, 2, 4.4, 3.4)
    net, twin = results.sel(linearized=False), results.sel(linearized=True)
    left, right = axes[0]
    plot.curves(left, net, "train_loss", color=plot.TRAIN, label="train")
    plot.curves(left, net, "population_risk", color=plot.TEST, label="test (exact)")
    plot.curves(
        left,
        twin,
        "train_loss",
        color=plot.TRAIN,
        style="--",
        label="train, linearised",
    )
    plot.curves(
        left,
        twin,
        "population_risk",
        color=plot.TEST,
        style="--",
        label="test, linearised",
    )
    left.axhline(
        float(net.kernel_regression_loss.median()),
        color="black",
        lw=1,
        ls=":",
        label="kernel regression with K0",
    )
    plot.log_steps(left)
    left.set_ylabel("loss")
    left.set_title("(a) grokking and the lazy twin")
    left.legend(fontsize=7)
    norm = net.assign(norm=net.weight_norm / net.weight_norm.isel(step=0))
    plot.curves(right, norm, "norm", color="tab:orange", label="weight norm / initial")
    plot.log_steps(right)
    right.set_ylabel("weight norm / initial")
    other = right.twinx()
    other.grid(False)
    plot.curves(other, net, "cka_centered_test", color="0.4", label="CKA, centred")
    plot.curves(other, net, "cka_test", color="0.7", label="CKA, raw")
    other.set_ylabel("kernel-task alignment (test set)")
    handles = [axis.get_legend_handles_labels() for axis in (right, other)]
    right.legend(*(np.concatenate([h[i] for h in handles]) for i in (0, 1)), fontsize=7)
    right.set_title("(b) norm and alignment rise")
    return drawing
