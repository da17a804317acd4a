"""Interventions: what is moved, what is held, and when the claims hold."""

import numpy as np
import pytest
import xarray as xr

from grok_jax.delay import cause, contest
from grok_jax.engine import config, planning, runner, session, shipped

MAP = planning.Engine(mode="map")


def on_spheres(gain=1.0, slope=1.0, radii=(1.0, 2.0, 4.0)):
    """Delays of 10 radius^slope as drawn and with an untrained network's first layer,
    10^-gain of that with the weak network's."""
    rng = np.random.default_rng(0)
    radius = np.array(radii)[None, :, None]
    factor = np.array([1.0, 10.0**-gain, 1.0])[:, None, None]
    t_test = 100 * factor * radius**slope * 10 ** rng.normal(0, 0.05, (3, 3, 8))
    dims = ("arm", "radius", "seed")
    shape = (3, 3, 8, 2)
    looked = {name: ((*dims, "step"), np.full(shape, 0.5)) for name in cause.LOOKED}
    return xr.Dataset(
        {
            "t_test": (dims, t_test),
            "t_train": (dims, np.full((3, 3, 8), 10.0)),
            "weak_test_accuracy": ((*dims, "step"), np.ones(shape)),
            **looked,
        },
        {
            "arm": [cause.DRAWN, cause.WEAK, cause.UNTRAINED],
            "radius": list(radii),
            "seed": np.arange(8),
            "step": [0, 100_000],
        },
    )


def rescaled(slope=0.0, alone=0.0):
    scales = np.array(cause.SCALES)
    rng = np.random.default_rng(0)
    powers = np.array([alone, slope])[:, None, None]
    seeds = 10 ** rng.normal(0, 0.05, 8)
    t_test = 300 * scales[None, :, None] ** powers * seeds
    return xr.Dataset(
        {
            "t_test": (("arm", "init_scale", "seed"), t_test),
            "t_train": (("arm", "init_scale", "seed"), np.full((2, 3, 8), 50.0)),
        },
        {
            "arm": [cause.MOVED, cause.HELD],
            "init_scale": scales,
            "seed": np.arange(8),
            "step": [0, 10_000],
        },
    )


@pytest.mark.parametrize(
    ("results", "of", "holds"),
    [
        (on_spheres(), cause.claims_on_spheres, [True, True, True]),
        (
            on_spheres(gain=-0.5, slope=-1),
            cause.claims_on_spheres,
            [False, False, False],
        ),
        (
            on_spheres(gain=0.0, slope=0.0),
            cause.claims_on_spheres,
            [False, False, False],
        ),
        (rescaled(), cause.claims_rescaled, [True, True]),
        (rescaled(slope=1.0, alone=0.5), cause.claims_rescaled, [False, False]),
    ],
)
def test_a_claim_holds_where_the_delay_moves_as_it_says(results, of, holds):
    found = of(results, "C")
    assert [claim.holds for claim in found] == holds


def test_runs_that_never_generalise_decide_nothing():
    never = rescaled()
    never["t_test"] = never.t_test * np.nan
    assert not any(claim.holds for claim in cause.claims_rescaled(never, "C"))
    both = on_spheres()
    both["t_test"] = both.t_test * np.nan
    both["t_train"] = both.t_train / both.radius  # which moves the ratio alone
    assert not any(claim.holds for claim in cause.claims_on_spheres(both, "C"))


def test_a_run_that_never_generalises_counts_as_one_that_did_at_the_end():
    results = on_spheres()
    results["t_test"] = results.t_test * np.nan
    np.testing.assert_allclose(cause.ratio(results), 1e4)


def test_all_arms_of_a_sphere_have_the_same_norm():
    page, _ = session.load_page(f"{shipped.pages()['c2_parity_embedding']}")
    plan = config.resolve(session.get_config(page, "smoke")).plan
    results = runner.Sweeper(plan, MAP, say=lambda _: None).run()
    norms = results.weight_norm.isel(step=0)
    for arm in norms.arm.values:
        drawn = norms.sel(arm=cause.DRAWN)
        np.testing.assert_allclose(norms.sel(arm=arm), drawn, rtol=1e-5)


@pytest.mark.parametrize("name", ["c3_modular_norm", "c4_parity_norm"])
def test_a_rescaled_run_is_the_same_but_for_rounding(name):
    page, _ = session.load_page(f"{shipped.pages()[name]}")
    plan = config.resolve(session.get_config(page, "smoke")).plan
    results = runner.Sweeper(plan, MAP, say=lambda _: None).run()
    loss = results.train_loss.sel(arm=cause.MOVED).transpose("init_scale", ...)
    np.testing.assert_allclose(loss[0], loss[1], rtol=1e-3)
    np.testing.assert_allclose(loss[2], loss[1], rtol=1e-3)
    held = results.train_loss.sel(arm=cause.HELD).transpose("init_scale", ...)
    np.testing.assert_allclose(held[0, :, 0], held[2, :, 0], rtol=1e-3)  # at step 0
    assert not np.allclose(held[0], held[2], rtol=1e-2)


def test_a_landscape_is_drawn_and_claims_nothing():
    axes = {"init_scale": [0.1, 1.0, 10.0], "output_scale": [1.0, 10.0], "seed": [0, 1]}
    loss = np.abs(np.random.default_rng(0).normal(size=(3, 2, 2, 2)))
    results = xr.Dataset(
        {"test_loss": ((*axes, "step"), loss)}, {**axes, "step": [0, 5]}
    )
    assert contest.claims(results, "D1") == []
    drawn = contest.figure(results).axes[0].get_lines()
    for place, line in enumerate(drawn):
        last = np.median(loss[:, place, :, -1], axis=-1)
        np.testing.assert_allclose(line.get_ydata(), last)
    assert len(drawn) == 2
