"""G3 (Xu et al. 2025, Fig. 3): how the pseudo-NTK moves under each embedding.

    python -m grok_jax.launch --config=experiments/groktransfer/g3_kernel.py \
        --workdir=runs/g3_kernel

The runs of `g2_embeddings.py` on modular addition, over their first 300 steps with a
kernel at every step: |Theta_t - Theta_(t-1)|_F of the pseudo-NTK, that of the summed
outputs (App. A.3.1), on 32 test pairs. "Similarly" is said of a picture. It is read as
one shape in every embedding: a rise to a peak about where the network fits, and then a
fall. Curves are running medians over nine steps; the correlation of log curves is told
beside it. Later, at the Fourier embedding's rate of 0.1, that network collapses, and
its kernel is noise (`g2_embeddings.py`). The levels were set when other seeds had been
seen, so that the seeds are new.

`cpu` has the paper's sizes.
"""

from functools import partial
from itertools import combinations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grok_jax import measures, plot
from grok_jax.claims import Claim
from grok_jax.pages import along, at, presets, sheet, shown, tested, typical

get_config = presets(
    dict(
        name="G3 kernel",
        description="the change of the pseudo-NTK under fixed embeddings",
        task=dict(name="modular_embedded", modulus=113, train_fraction=0.25),
        model=dict(name="fnn", embedding=0),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw"),
        observe=dict(kernel_snapshots=dict(points=32, kind="pseudo")),
        train=dict(steps=300, records=300, spacing="linear"),
        grok=dict(kind="accuracy", train=0.95, test=0.9),
        arms={
            "one-hot": dict(
                task=dict(embedding="one_hot"),
                model=dict(init_scale=0.2),
                optimizer=dict(learning_rate=0.01, weight_decay=5.0),
            ),
            "binary": dict(
                task=dict(embedding="binary"),
                model=dict(init_scale=0.3),
                optimizer=dict(learning_rate=0.01, weight_decay=1.0),
            ),
            "Fourier": dict(
                task=dict(embedding="fourier"),
                model=dict(init_scale=0.5),
                optimizer=dict(learning_rate=0.1, weight_decay=0.1),
            ),
        },
        sweep=dict(seed=(100, 101, 102)),
    ),
    smoke=dict(
        task=dict(modulus=7, frequencies=2),
        model=dict(width=8),
        observe=dict(kernel_snapshots=dict(points=2)),
        train=dict(steps=20, records=20),
        sweep=dict(seed=(0, 1)),
    ),
    paper=dict(
        train=dict(steps=2000, records=2000),
        sweep=dict(seed=tuple(range(100, 105))),
    ),
)


def changes(results: xr.Dataset) -> xr.DataArray:
    """|Theta_t - Theta_(t-1)|_F as running medians, [arm, seed, step]."""
    moved = (results.ntk.diff("step") ** 2).sum(("ntk_0", "ntk_1"), skipna=False) ** 0.5
    smooth = moved.rolling(step=9, center=True, min_periods=5).median()
    return smooth.transpose("arm", "seed", "step")


def claims(results: xr.Dataset) -> list[Claim]:
    moved, checks = changes(results), []
    for name in results.arm.values:
        curve, fit = moved.sel(arm=name), results.t_train.sel(arm=name)
        top = along("step", measures.peak, curve)
        thrice = (3 * fit).clip(min=1)
        later = at(curve, thrice.where(thrice <= curve.step.max()))
        checks += [
            typical(f"step of the peak / t_train, {name}", top.step / fit, ">=", 0.5),
            typical(f"step of the peak / t_train, {name}", top.step / fit, "<=", 2),
            typical(f"at 3 t_train / peak, {name}", later / top.value, "<=", 0.2),
        ]
    logs = np.log(moved.median("seed"))
    for a, b in combinations(logs, 2):
        pair = f"{a.arm.item()} and {b.arm.item()}"
        checks.append(shown(f"correlation of logs, {pair}", xr.corr(a, b, "step")))
    said = "the empirical NTK changes similarly under every embedding"
    less = "the embedding of a language model is not run"
    return [tested("G3", "Sec. 2.1, Fig. 3", said, *checks, less=less)]


def figure(results: xr.Dataset) -> Figure:
    moved = changes(results).to_dataset(name="change")
    label = "|Θ(t) - Θ(t - 1)|"
    change = partial(plot.family, over="arm", kind="change", label=label)
    return sheet(
        ("Fig. 3", change, moved),
        ("", partial(change, log=True), moved),
        ("", partial(plot.family, over="arm"), results),
    )
