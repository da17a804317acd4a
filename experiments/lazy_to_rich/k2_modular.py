"""K2 (Kumar et al. 2024, Figs. 2 and 16): modular addition without weight decay.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k2_modular.py \
        --workdir=runs/k2

(a + b) mod 23 on one-hot pairs, f = (alpha / N) V (W x)^2 with N = 100, mean squared
error on one-hot targets, vanilla gradient descent at rate 100 / alpha^2, 90% of the
pairs for training. The norm is that of all parameters. The NTK on 48 test pairs is
stored along training, and its lead over generalisation is measured.

`cpu`: alpha 1/4..4, 3 seeds, 40,000 steps; about two minutes on two cores.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim, spread
from grok_jax.engine.config import choose_preset, make_config
from grok_jax.kernel_history import KernelHistory, kernel_history


def get_config(preset: str = "cpu"):
    base = dict(
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
    )
    smoke = dict(
        task=dict(modulus=5),
        model=dict(width=30),
        observe=dict(kernel_snapshots=dict(points=2)),
        train=dict(steps=200, records=20),
        sweep=dict(output_scale=(0.5, 1.0), seed=(0, 1)),
    )
    paper = dict(
        train=dict(steps=100_000),
        sweep=dict(
            output_scale=(0.125, 0.25, 0.5, 1.0, 2.0, 4.0), seed=tuple(range(10))
        ),
    )
    return make_config(base, choose_preset(preset, smoke=smoke, cpu={}, paper=paper))


def history(results: xr.Dataset) -> KernelHistory:
    kernels = results.ntk.transpose(..., "step", "ntk_0", "ntk_1").values
    targets = results.ntk_targets.transpose(..., "step", *_target_dims(results)).values
    return kernel_history(kernels, targets)


def _target_dims(results: xr.Dataset) -> list[str]:
    return [
        str(d) for d in results.ntk_targets.dims if str(d).startswith("ntk_targets")
    ]


def claims(results: xr.Dataset) -> list[Claim]:
    alphas = results.output_scale.values
    gap = results.t_test - results.t_train
    one = results.sel(output_scale=1.0)
    norm = one.weight_norm
    at_train = norm.sel(step=one.t_train.fillna(0).astype(int))
    at_test = norm.sel(step=one.t_test.fillna(0).astype(int))
    rises = (at_test / at_train).values
    whole = (norm.isel(step=-1) / norm.isel(step=0)).values
    loss_train, loss_test = measures.grokking_times(
        results.step.values,
        one.train_loss.transpose("seed", "step").values,
        one.test_loss.transpose("seed", "step").values,
    )
    kernel = history(one.transpose("seed", ...))
    lead = np.asarray(measures.half_way(results.step.values, kernel.distance))
    return [
        Claim(
            "K2a",
            "2a, 16",
            "alpha = 1: test accuracy comes long after train accuracy",
            "t_test >= 2 t_train, every seed",
            {"t_train": one.t_train.values, "t_test": one.t_test.values},
            bool((one.t_test >= 2 * one.t_train).all()),
        ),
        Claim(
            "K2b",
            "2b, 16",
            "alpha = 1: and so in the loss",
            "test loss below 10% of its peak after train loss below 5%, every seed",
            {"t_train": loss_train, "t_test": loss_test},
            bool((np.asarray(loss_test) > np.asarray(loss_train)).all()),
        ),
        Claim(
            "K2c",
            "2a",
            "alpha = 1: the weight norm rises from memorising to generalising",
            "norm at t_test / norm at t_train > 1.02, every seed",
            spread(rises),
            bool((rises > 1.02).all()),
        ),
        Claim(
            "K2d",
            "2a",
            "alpha = 1: the weight norm is larger at the end than at the start",
            "end / start > 1, every seed",
            spread(whole),
            bool((whole > 1).all()),
        ),
        Claim(
            "K2e",
            "2c",
            "the output scale moves the delay continuously",
            "t_test - t_train grows with alpha, every seed, and >= 5x over the sweep",
            {
                f"alpha {a:g}": v
                for a, v in zip(alphas, gap.median("seed").values, strict=True)
            },
            bool(
                (gap.diff("output_scale") > 0).all()
                and (gap.isel(output_scale=-1) >= 5 * gap.isel(output_scale=0)).all()
            ),
        ),
        Claim(
            "K2f",
            "-",
            "alpha = 1: the kernel has covered half of its way before test accuracy "
            "is at 95%",
            "half-way step of 1 - cos(K_t, K_0) < t_test, every seed",
            {"half-way": lead, "lead over t_test": one.t_test.values - lead},
            bool((lead < one.t_test.values).all()),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    drawing, axes = plot.panels(1, 4, 3.7, 3.2)
    one = results.sel(output_scale=1.0)
    for axis, kind in ((axes[0, 0], "accuracy"), (axes[0, 1], "loss")):
        plot.curves(axis, one, f"train_{kind}", color=plot.TRAIN, label="train")
        plot.curves(axis, one, f"test_{kind}", color=plot.TEST, label="test")
        plot.log_steps(axis)
        axis.set_ylabel(kind)
        axis.legend(fontsize=7)
    axes[0, 0].set_title("(a) accuracy and norm, α = 1")
    axes[0, 1].set_title("(b) loss, α = 1")
    norm = axes[0, 0].twinx()
    norm.grid(False)
    plot.curves(norm, one, "weight_norm", color="tab:orange", style="--")
    norm.set_ylabel("weight norm (dashed)")
    plot.family(axes[0, 2], results, "output_scale", "α")
    axes[0, 2].set_title("(c) output scale α")
    kernel = history(one.transpose("seed", ...))
    drawn = xr.Dataset(
        {
            name: (("seed", "step"), getattr(kernel, name))
            for name in ("distance", "velocity", "top_power")
        },
        coords={"step": results.step.values},
    )
    labels = ("1 - cos(K, K0)", "velocity", "target power in top 10")
    for name, label in zip(drawn.data_vars, labels, strict=True):
        plot.curves(axes[0, 3], drawn, str(name), label=label)
    plot.log_steps(axes[0, 3])
    axes[0, 3].set_title("(d) the kernel, α = 1")
    axes[0, 3].legend(fontsize=7)
    return drawing
