"""K13 (Kumar et al. 2024, Fig. 15): Hermite targets of degree 2, 3 and 4.

    python -m grok_jax.launch --config=experiments/lazy_to_rich/k13_hermite.py \
        --workdir=runs/k13_hermite

y = He_k(beta . x) / 2 with |beta|^2 = D and phi(z) = z + (epsilon / 2) He_k(z). For
even k the constant terms of target and network agree where alpha epsilon = 1 (elsewhere
the test loss keeps a floor: a network of 500 units without bias cannot make one up).

The paper has D = 100. P and the learning rates are from trials on seeds 10 and 11:
fewer data lengthen the delay, too few leave no generalisation; at a learning rate of
0.02 one run of degree 4 diverges.
"""

import xarray as xr
from matplotlib.figure import Figure

from grok_jax import plot
from grok_jax.claims import Claim
from grok_jax.pages import by_loss, every, grid, presets, tested, times

get_config = presets(
    dict(
        name="K13 Hermite",
        description="target and activation of degree 2, 3 and 4",
        task=dict(name="polynomial", input_dim=10),
        model=dict(name="committee", width=500, output_scale=2.0),
        optimizer=dict(name="gradient_descent", rule="lazy"),
        observe=dict(norms={}),
        train=dict(steps=40_000, records=80),
        sweep=dict(
            task=dict(degree=(2, 3, 4), train_size=(50, 600, 250)),
            model=dict(degree=(2, 3, 4), epsilon=(0.5, 1.0, 0.5)),
            learning_rate=(0.2, 0.05, 0.005),
            seed=(0, 1, 2),
        ),
        zip=("task.degree+model.degree+train_size+epsilon+learning_rate",),
    ),
    smoke=dict(
        task=dict(input_dim=4, test_size=30),
        model=dict(width=20),
        train=dict(steps=100, records=20),
        sweep=dict(task=dict(train_size=(20, 30, 40)), seed=(0, 1)),
    ),
    paper=dict(
        task=dict(input_dim=30),
        train=dict(steps=100_000),
        sweep=dict(task=dict(train_size=(200, 4000, 8000)), seed=tuple(range(5))),
    ),
)


def claims(results: xr.Dataset) -> list[Claim]:
    loss, timed = results.test_loss, by_loss(results)
    timed = timed.assign(end=loss.isel(step=-1) / loss.isel(step=0))
    runs = [timed.sel(task_degree=value) for value in results.task_degree.values]
    return [
        tested(
            f"K13{letter}",
            "Fig. 15",
            f"degree {run.task_degree:d}: the network groks in the loss",
            every("t_test", run.t_test, ">=", times(3, "t_train", run.t_train)),
            every("test loss, end / start", run.end, "<", 0.15),
        )
        for letter, run in zip("def", runs, strict=True)
    ]


def figure(results: xr.Dataset) -> Figure:
    return grid(results, "task_degree", "degree {}, P = {train_size}", plot.losses)
