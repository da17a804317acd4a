"""O5 (Liu et al. 2023, Table 1): toy addition with a representation that is trained.

    python -m grok_jax.launch --config=experiments/omnigrok/o5_full_trajectory.py \
        --workdir=runs/o5_full_trajectory

The "full trajectory" of Table 1: the symbols' places E_i on a line, at first N(0, 1),
are trained with the decoder 1-200-200-30 that predicts the vector of i + j from
E_i + E_j (App. D), the decoder by AdamW at the rate eta_D with weight decay gamma, the
places by Adam at eta_R. The appendix with the paper's own run is not in it; App. D says
what it shows, with a slip ("first increases and then increases"), and Sec. 5.1 what
gamma and eta_D do. Rates, decays and steps are ours; 45 of the 55 pairs are for
training, every sum among them.

The authors' code of their earlier paper (arXiv 2205.10343) has this network with tanh,
places from U(-0.5, 0.5) and rates of 1e-4 and 1e-3: `--config.model.activation=tanh`,
`--config.model.bound=0.5`. What comes of it is told beside the claims that fail.
"""

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_jax import measures, optim, plot
from grok_jax.claims import Claim
from grok_jax.models.mlp import mlp
from grok_jax.pages import OURS, along, late, presets, sheet, tested, typical
from grok_jax.rng import Keys, named_key
from grok_jax.settings import Count, NonNegative, Positive, Rank
from grok_jax.tasks.toy_addition import toy_addition
from grok_jax.types import Dataset, Model, Params


def pairs(
    keys: Keys, *, symbols: Count = 10, train_size: Rank = 45, target_dim: Count = 30
) -> Dataset:
    """`toy_addition` with x = e_i + e_j [n, p], of unit vectors: the network has the
    representation."""
    data = toy_addition(
        keys, symbols=symbols, train_size=train_size, target_dim=target_dim, cover=True
    )
    unit = jnp.eye(symbols)
    x = unit[data.extras["a"]] + unit[data.extras["b"]]
    return Dataset(data.train._replace(x=x), data.test._replace(x=x), data.extras)


def adder(
    *,
    dimension: Count = 1,
    width: Count = 200,
    outputs: Count = 30,
    activation: Literal["relu", "tanh", "leaky_relu"] = "relu",
    bound: NonNegative = 0.0,
) -> Model:
    """x [n, p] -> Dec(x R) [n, outputs], params {"decoder": an `mlp` of two hidden
    layers, "embed": R [p, dimension] from N(0, 1), or from U(-bound, bound) if the
    bound is above 0}."""
    decoder = mlp(width=width, layers=2, outputs=outputs, activation=activation)

    def init(key: Array, x: Array) -> Params:
        own, shape = named_key(key, "embed"), (x.shape[-1], dimension)
        even = bound * jax.random.uniform(own, shape, minval=-1.0)
        table = jnp.where(bound > 0, even, jax.random.normal(own, shape))
        return {
            "decoder": decoder.init(named_key(key, "decoder"), jnp.matmul(x, table)),
            "embed": table,
        }

    def apply(params: Params, x: Array) -> Array:
        return decoder.apply(params["decoder"], jnp.matmul(x, params["embed"]))

    return Model(init, apply)


def both(
    *,
    learning_rate: Positive = 1e-3,
    representation_rate: Positive = 1e-3,
    weight_decay: NonNegative = 0.0,
) -> optax.GradientTransformation:
    """AdamW at `learning_rate` for the decoder, Adam at `representation_rate` without
    decay for the representation."""
    parts: Any = {
        "decoder": optim.adamw(learning_rate=learning_rate, weight_decay=weight_decay),
        "embed": optim.adamw(learning_rate=representation_rate),
    }
    return optax.multi_transform(parts, lambda params: {key: key for key in params})


get_config = presets(
    dict(
        name="O5 full trajectory",
        description="addition of trained symbols: norm, messiness and generalisation",
        task=dict(name=pairs),
        model=dict(name=adder),
        loss=dict(name="squared_error", outputs="mean"),
        optimizer=dict(name=both),
        observe=dict(norms={}, parameter_snapshots={}),
        train=dict(steps=30_000, records=120),
        sweep=dict(
            learning_rate=(3e-4, 1e-3),
            weight_decay=(0.3, 1.0, 3.0),
            seed=tuple(range(100, 105)),
        ),
    ),
    smoke=dict(
        model=dict(width=8), train=dict(steps=60, records=12), sweep=dict(seed=(0, 1))
    ),
    paper=dict(train=dict(steps=100_000), sweep=dict(seed=tuple(range(100, 110)))),
)


def norm_of_decoder(results: xr.Dataset) -> xr.DataArray:
    """w, the norm of the decoder alone."""
    return np.sqrt(results.weight_norm**2 - results.weight_norm_embed**2)


def straightness(results: xr.Dataset) -> xr.DataArray:
    """|correlation| of the places with the numbers, 1 for the linear representation;
    of several dimensions the largest."""
    *_, symbol, axis = results.parameter.dims
    number = xr.DataArray(np.arange(results.sizes[symbol]), dims=symbol)
    return abs(xr.corr(results.parameter, number, dim=symbol)).max(axis)


def together(norm: xr.DataArray, loss: xr.DataArray) -> xr.DataArray:
    """The rank correlation of norm and test loss from the peak of the norm on."""

    def after(w: np.ndarray, test: np.ndarray) -> float:
        peak = int(np.nanargmax(w))
        return float(measures.spearman(w[peak:], test[peak:]))

    dims = [["step"], ["step"]]
    return xr.apply_ufunc(after, norm, loss, input_core_dims=dims, vectorize=True)


def claims(results: xr.Dataset) -> list[Claim]:
    run = results.sel(learning_rate=1e-3, weight_decay=1.0)
    norm = norm_of_decoder(run)
    peak = along("step", measures.peak, norm)
    straight = straightness(run)
    t_test = late(results.t_test)
    slow, fast = (t_test.sel(learning_rate=rate) for rate in (3e-4, 1e-3))
    little, much = (t_test.sel(weight_decay=gamma) for gamma in (0.3, 1.0))
    return [
        tested(
            "O5i",
            "App. D (Reduced trajectory analysis)",
            "the norm of the decoder first increases and then decreases",
            typical("peak / start", peak.value / peak.first, ">", 1.1),
            typical("end / peak", peak.last / peak.value, "<", 0.9),
        ),
        tested(
            "O5j",
            "App. D (Reduced trajectory analysis)",
            "the decrease of the norm goes with generalisation",
            typical(
                "rank correlation with the test loss",
                together(norm, run.test_loss),
                ">",
                0.5,
            ),
        ),
        tested(
            "O5k",
            OURS,
            "and with it the representation becomes linear",
            typical(
                "|correlation| with the numbers at the end",
                straight.isel(step=-1),
                ">",
                0.9,
            ),
            typical("at the start", straight.isel(step=0), "<", 0.9),
        ),
        tested(
            "O5l",
            "Sec. 5.1 (the total time t)",
            "larger weight decay and larger decoder rates make it generalise sooner",
            typical(
                "t_test at gamma 0.3 / at 1",
                (little / much).sel(learning_rate=1e-3),
                ">",
                1,
            ),
            typical(
                "t_test at rate 3e-4 / at 1e-3",
                (slow / fast).sel(weight_decay=1.0),
                ">",
                1,
            ),
        ),
    ]


def figure(results: xr.Dataset) -> Figure:
    run = results.sel(learning_rate=1e-3, weight_decay=1.0)
    run = run.assign(decoder_norm=norm_of_decoder(run), straightness=straightness(run))
    curve = partial(plot.curves, each=True)

    def line(axis: Axes, runs: xr.Dataset, name: str) -> None:
        curve(axis, runs, name)
        plot.log_steps(axis)
        axis.set_ylabel(plot.words(name))

    law = partial(plot.times, over="weight_decay", law=-1)
    return sheet(
        ("η_D = 1e-3, γ = 1", partial(plot.losses, log=True, each=True), run),
        ("", partial(line, name="decoder_norm"), run),
        ("|correlation| of E with 0 to 9", partial(line, name="straightness"), run),
        ("η_D = 1e-3", law, results.sel(learning_rate=1e-3)),
        columns=2,
    )
