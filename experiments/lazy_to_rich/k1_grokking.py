"""K1 (Kumar et al. 2024, Fig. 1): grokking without regularisation, with rising norm.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k1_grokking.py \
        --workdir=runs/k1

The committee machine by full-batch gradient descent, beside its linearisation at step 0
in closed form. `cpu` moves the statistics of its 500 units, which is the same descent;
`paper` moves the units. The weight norm is that of the units over sqrt(N). The rise of
the test loss is that of the exact population risk; t_train and t_test are the steps at
which train loss is below 5% of its start and the risk below 10% of its peak.

The paper does not state epsilon and eta for Fig. 1: 0.02, eta = N and the number of
steps are those of a script of the authors, as others have kept it; 0.25 is the least
epsilon of Fig. 3. At 0.02 the initial kernel fits little but the linear part, so that
most of the train loss falls with the test loss: one run of another seed had lost 95% of
the one at step 9,000 and 90% of the other at 14,000. The definition of Sec. 16.1 is
tested there, a long delay at 0.25. The linearisation keeps the output at step 0. Seeds
from 100 on, because seeds 0-2 were seen when the claims were chosen.

What fails at 0.02: the CKA rises by 1.3 and goes with the misalignment error at -0.73
(K1e, K1f). At 0.25, in the same run, it rises by 4.4, at -1.0: epsilon tells them
apart. K1c fails at both: network and linearisation part at 0.70 and 0.57 of the train
loss. The larger the output scale, the less is left there: 0.21 at 0.25 and alpha = 8.
"""

from functools import partial
from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.pages import (
    along,
    at,
    by_loss,
    change,
    late,
    left,
    presets,
    rise,
    share,
    sheet,
    tested,
    typical,
)

SCRIPT, USUAL = 0.02, 0.25
"""The values of epsilon."""

get_config = presets(
    dict(
        name="K1 grokking",
        description="the committee machine and its linearisation",
        task=dict(name="polynomial", input_dim=100, train_size=550),
        model=dict(name="committee_dynamics", width=500),
        optimizer=dict(name="gradient_descent", learning_rate=1.0, rule="lazy"),
        observe=dict(
            norms={}, population_risk={}, kernel_alignment=dict(every=3, points=400)
        ),
        reference=dict(lazy=True),
        train=dict(steps=100_000, records=150),
        sweep=dict(epsilon=(SCRIPT, USUAL), seed=tuple(range(100, 110))),
    ),
    smoke=dict(
        task=dict(input_dim=12, train_size=60, test_size=50),
        model=dict(width=30),
        train=dict(steps=300, records=20),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(model=dict(name="committee")),
)


def claims(results: xr.Dataset) -> list[Claim]:
    usual = by_loss(results.sel(epsilon=USUAL), "population_risk")
    delayed = late(usual.t_test) / usual.t_train
    results = results.sel(epsilon=SCRIPT)
    risk, train = results.population_risk, share(results, "train_loss").train_loss
    peak = along("step", measures.peak, risk)
    gap = abs(results.test_loss - results.lazy_test_loss)
    gap = gap / results.test_loss.isel(step=0, drop=True)
    parting = along("step", measures.first_step_reaching, gap, threshold=0.05)
    end = results.test_loss.isel(step=-1) / results.kernel_regression_loss
    measured = results[["cka_test", "misalignment_error"]].dropna("step")
    cka, misaligned = measured.cka_test, measured.misalignment_error
    together = along("step", lambda _, x, y: rank_correlations(x, y), cka, misaligned)
    return [
        tested(
            "K1a",
            "Fig. 1b, Sec. 16.1",
            "plain gradient descent without regularisation groks in the loss: the test "
            "loss does not fall but rise while the train loss falls, and falls later",
            typical("peak / start of the risk", rise(risk), ">", 1.02),
            typical("train loss / start at the peak", at(train, peak.step), "<", 0.9),
            typical("end / peak of the risk", left(risk), "<=", 0.25),
        ),
        tested(
            "K1g",
            "Abstract, Sec. 5",
            f"epsilon {USUAL}: the train loss falls much earlier than the test loss",
            typical("t_test / t_train", delayed, ">=", 3),
            typical("t_test / t_train", delayed, "<", float("inf")),
        ),
        tested(
            "K1b",
            "Fig. 1c, Sec. 3",
            "the norm of the parameters increases meanwhile",
            typical("end / start", change(results.weight_norm), ">", 1.05),
        ),
        tested(
            "K1c",
            "Secs. 1, 4",
            "the network tracks its linearisation at first and leaves it when the "
            "train loss is already low",
            typical("train loss / start where they part", at(train, parting), "<", 0.5),
            less="they part where their test losses differ by 5% of the start",
        ),
        tested(
            "K1d",
            "Fig. 1b",
            "the network ends below kernel regression with the initial NTK, the "
            "horizontal line",
            typical("test loss at the end / that of the kernel", end, "<", 0.25),
        ),
        tested(
            "K1e",
            "Fig. 1c",
            "the NTK aligns with the task: the CKA on the test set rises",
            typical("end / start", change(cka), ">", 1.5),
        ),
        tested(
            "K1f",
            "Sec. 5.3",
            "the misalignment error and the CKA are strongly correlated",
            typical("rank correlation over the training", together, "<=", -0.9),
        ),
    ]


def rank_correlations(x: Any, y: Any) -> list[float]:
    """The rank correlation of each pair of lines [seed, step]."""
    return [float(measures.spearman(*pair)) for pair in zip(x, y, strict=True)]


def figure(results: xr.Dataset) -> Figure:
    script, usual = (results.sel(epsilon=epsilon) for epsilon in (SCRIPT, USUAL))
    return sheet(
        (f"(b) grokking, and the linearised network, ε = {SCRIPT}", losses, script),
        (f"(c) norm and alignment, ε = {SCRIPT}", rises, script),
        (f"(b) ε = {USUAL}", losses, usual),
        (f"(c) ε = {USUAL}", rises, usual),
        columns=2,
    )


def losses(axis: Axes, results: xr.Dataset) -> None:
    names = ["train_loss", "population_risk", "lazy_train_loss", "lazy_test_loss"]
    results = share(results.isel(seed=slice(3)), *names)
    plot.losses(axis, results, test="population_risk", each=True)
    lazy = dict(train_loss=results.lazy_train_loss, test_loss=results.lazy_test_loss)
    draw = partial(plot.losses, axis, style="--", suffix=", linearised", each=True)
    draw(results.assign(lazy))
    start = along("step", measures.peak, results.test_loss).first
    plot.levels(
        axis,
        (results.kernel_regression_loss / start).isel(seed=0),
        label="kernel regression with K0",
        color="black",
    )
    axis.set_ylabel("loss / start (bold: one seed)")


def rises(axis: Axes, results: xr.Dataset) -> None:
    plot.curves(axis, results, "weight_norm", color="tab:orange", share=True)
    plot.log_steps(axis)
    axis.set_ylabel("weight norm / start")
    other = axis.twinx()
    other.grid(False)
    plot.curves(other, results, "cka_test", color="0.4", style="--")
    plot.curves(other, results, "cka_centered_test", color="0.7", style=":")
    other.set_ylabel("CKA with the task, test set\n(dashed: raw, dotted: centred)")
