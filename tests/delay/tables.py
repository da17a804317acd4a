"""A made-up table of runs, whose delay follows from numbers that are known."""

import functools

import numpy as np
import xarray as xr

from grok_jax.delay import judges
from grok_jax.delay.evidence import EVIDENCE


def made_up(runs=400, tasks=("a", "b"), seed=0, noise=0.3):
    """Runs whose delay is exp(3 - 4 x alignment at t_train), with noise; the horizon
    is 3,000 steps."""
    rng = np.random.default_rng(seed)
    n = runs * len(tasks)

    def uniform(low, high):
        return rng.uniform(low, high, n)

    alignment = uniform(0, 1)
    t_train = np.exp(uniform(np.log(10), np.log(100)))
    t_test = t_train * np.exp(3 - 4 * alignment + noise * rng.normal(size=n)).clip(1)
    columns = {
        "task": np.repeat(tasks, runs),
        "output_scale": np.exp(uniform(-2, 2)),
        "init_scale": np.exp(uniform(-1, 1)),
        "weight_decay": np.where(uniform(0, 1) < 0.2, 0, uniform(0.01, 1)),
        "learning_rate": np.exp(uniform(-7, -4)),
        "train_fraction": uniform(0.2, 1),
        "width": rng.choice([16.0, 32.0], n),
        "layers": rng.choice([1.0, 2.0], n),
        "embedding": np.where(np.arange(n) % 2, np.nan, 8.0),
        "mlp_width": np.where(np.arange(n) % 2, np.nan, 32.0),
        "method": rng.choice(["adamw", "momentum"], n),
        "operation": np.full(n, ""),
        "t_train": t_train,
        "t_test": np.where(t_test < 3000, t_test, np.nan),
        "horizon": np.full(n, 3000.0),
        "critical_norm": np.full(n, 5.0),
    }
    for name in EVIDENCE:
        columns[f"start_{name}"] = uniform(0.1, 1)
        columns[f"fitted_{name}"] = uniform(0.1, 1)
    columns["fitted_kernel_alignment"] = alignment
    columns["start_weight_norm"] = columns["fitted_weight_norm"] = uniform(3, 20)
    columns["fitted_oscillation"] = uniform(0, 1)
    columns["fitted_kernel_speed"] = uniform(0, 1)
    return xr.Dataset({name: ("run", column) for name, column in columns.items()})


@functools.cache
def judged():
    """The verdicts on made-up runs, by Cox's model alone."""
    return judges.judge(made_up(runs=80), models=("Cox",))
