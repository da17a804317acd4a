"""The price of a remedy, and what a look at the evidence costs."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from delay.test_table import results as table_results

from grok_jax.delay import cost, remedies, tasks
from grok_jax.delay.evidence import evidence
from grok_jax.engine import config


def results(t_test, weak=0.0, steps=100):
    """Trials [arm, seed] of 10 FLOPs a step; the second arm's cost `weak` more."""
    t_test = xr.DataArray(t_test, dims=("arm", "seed"))
    arms, trials = t_test.shape
    arm = [remedies.PLAIN, "remedy"][:arms]
    dims = ("arm", "seed")
    taken = np.ones((arms, trials, 2)) * [[[0.0]], [[1.0]]][:arms]
    return xr.Dataset(
        {
            "t_test": t_test,
            "flops_per_step": (dims, np.full((arms, trials), 10.0)),
            "weak_flops_per_step": (dims, np.full((arms, trials), weak)),
            "weak_steps_taken": ((*dims, "step"), taken),
        },
        {"arm": arm, "seed": np.arange(trials), "step": [0, steps]},
    )


def test_trials_that_fail_are_paid_for_and_so_is_the_weak_network():
    nan = np.nan
    found = results([[10.0, 50, nan, nan], [10.0, 10, 10, nan]], weak=7.0)
    paid = remedies.price(found)
    assert paid.values.tolist() == [(100 + 500 + 2000) / 2, (300 + 1000 + 4 * 7) / 3]


def test_a_remedy_that_never_succeeds_has_no_price():
    found = results([[10.0, 50, 20, 30], [np.nan] * 4])
    assert remedies.price(found).values.tolist() == [275.0, np.inf]
    claim = remedies.claims(found, "R1")[0]
    assert not claim.holds


def test_the_interval_decides():
    better = results([[50.0] * 16, [5.0] * 16])
    same = results([[50.0, 5] * 8, [5.0, 50] * 8])
    assert remedies.claims(better, "R1")[0].holds
    assert not remedies.claims(same, "R1")[0].holds
    assert float(remedies.ratios(better).sel(arm="remedy").max()) == 0.1


@pytest.mark.parametrize("remedy", [[5.0] * 4, [np.nan] * 3 + [50.0], [np.nan] * 4])
@pytest.mark.parametrize("plain", [[50.0] * 4, [np.nan] * 4])
def test_an_interval_without_end_is_drawn_to_the_edge(plain, remedy):
    axis = remedies.figure(results([plain, remedy])).axes[1]
    endless = np.isnan(plain).any() or np.isnan(remedy).any()
    marks = [line.get_marker() for line in axis.lines]
    assert (">" in marks) == endless
    drawn = [line.get_xdata() for line in axis.lines if line.get_marker() == ">"]
    assert np.isfinite(drawn).all()


def test_arms_differ_by_their_remedy_alone():
    weak = dict(model=dict(name="mlp", width=4, layers=1), into="layer_0.w")
    base = dict(
        task=dict(name=tasks.pairs, modulus=5),
        model=dict(name="mlp", width=8, layers=1),
        loss=dict(name="classification"),
        optimizer=dict(name="adamw", weight_decay=0.3),
    )
    make = remedies.presets_of(base, weak=weak, logits=True, smoke={})
    plan = config.resolve(make("cpu")).plan
    assert len(plan.grid) == 8 * 32
    plain = plan.arms[remedies.PLAIN]
    assert plan.arms["larger decay"].optimizer["weight_decay"] == 0.3
    for name, arm in plan.arms.items():
        same = [
            arm.task.settings == plain.task.settings,
            arm.model.settings == plain.model.settings,
            name == "StableMax" or arm.loss.settings == plain.loss.settings,
            arm.wrapping.settings == plain.wrapping.settings,
        ]
        assert all(same), name
    other = remedies.presets_of(base, weak=weak, smoke={})
    assert "StableMax" not in config.resolve(other("cpu")).plan.arms


def test_larger_decay_is_adamw_with_more_of_it():
    params, gradient = {"w": jnp.array([2.0])}, {"w": jnp.array([0.3])}
    ours = tasks.more_decay(learning_rate=0.1, weight_decay=0.2, times=5.0)
    theirs = optax.adamw(0.1, weight_decay=1.0)
    (one, _), (two, _) = (
        tx.update(gradient, tx.init(params), params) for tx in (ours, theirs)
    )
    np.testing.assert_allclose(one["w"], two["w"])


def test_the_sphere_has_the_radius_that_was_drawn():
    params = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    tx = tasks.on_sphere(learning_rate=0.01, radius=0.5)
    state = tx.init(params)
    for _ in range(3):
        updates, state = tx.update({"a": jnp.ones(2), "b": jnp.ones(1)}, state, params)
        params = optax.apply_updates(params, updates)
        assert float(optax.tree.norm(params)) == pytest.approx(2.5, rel=1e-5)


def test_a_scaled_network_is_so_many_times_the_network():
    wrapped = tasks.scaled(lambda params, x: params * x, 0.0, factor=0.25)
    assert wrapped(3.0, 4.0) == 3.0


def test_the_cost_of_a_look_is_told_in_steps():
    page = dict(
        task=dict(name=tasks.parity_pool, bits=6, support=2, pool=24, test_size=20),
        model=dict(name="mlp", width=8, layers=1),
        loss=dict(name="binary_cross_entropy"),
        observe=dict(evidence=dict(name=evidence, points=20), norms={}),
    )
    settings = config.resolve(config.make_config(page)).plan.experiment
    steps = cost.in_steps(settings)
    assert isinstance(steps, float) and np.isfinite(steps)


def trials(of, runs=200):
    """Trials of two tasks whose gain is `of` (norm's number, noise) [run]."""
    rng = np.random.default_rng(0)
    task = np.repeat(["a", "b"], runs // 2)
    above = rng.uniform(0.1, 3, runs)
    table = xr.Dataset(
        {
            "task": ("run", task),
            "seed": ("run", np.arange(runs) % (runs // 2)),
            "t_train": ("run", np.full(runs, 10.0)),
            "start_weight_norm": ("run", np.exp(above)),
            "critical_norm": ("run", np.ones(runs)),
            "learning_rate": ("run", np.full(runs, 1e-2)),
            "weight_decay": ("run", np.full(runs, 0.1)),
            "start_kernel_alignment": ("run", rng.uniform(size=runs)),
            "start_embedding_overlap": ("run", np.full(runs, np.nan)),
            "start_curvature": ("run", rng.uniform(1, 9, runs)),
        },
        {"arm": ["remedy"]},
    )
    gain = np.where(task == "a", 0, 100) + of(above, rng.normal(0, 0.3, runs))
    return table.assign(gain=(("run", "arm"), gain[:, None]))


def test_a_theory_foretells_where_a_remedy_helps_only_if_it_does():
    found = remedies.foretold(trials(lambda number, noise: number + noise))["remedy"]
    middle, low, high = found["norm"]
    assert 0.8 < low < middle < high <= 1
    assert found["kernel"][1] < 0 < found["kernel"][2]
    assert np.isnan(found["embedding"][0])  # a task without the number
    found = remedies.foretold(trials(lambda number, noise: -number + noise))["remedy"]
    assert found["norm"][2] < -0.8
    found = remedies.foretold(trials(lambda number, noise: noise))["remedy"]
    assert found["norm"][1] < 0 < found["norm"][2]


def test_a_gain_that_nearly_no_trial_has_still_has_an_interval():
    made = trials(lambda number, noise: np.zeros(len(number)), runs=20)
    made.gain[3, 0] = 1.0  # a third of the draws of the seeds are without it
    middle, low, high = remedies.foretold(made)["remedy"]["norm"]
    assert np.isfinite([low, high]).all() and low <= middle <= high


def test_ranks_are_within_a_task():
    task = np.array(["a", "a", "a", "b", "b"])
    ranks = remedies._ranks(task, np.array([3.0, 1, 2, 50, 60]))
    np.testing.assert_allclose(ranks, [0.25, -0.25, 0, -1 / 6, 1 / 6])


def test_a_gain_is_in_decades_and_never_is_the_last_step():
    runs = table_results()
    arms = xr.DataArray([remedies.PLAIN, "remedy"], dims="arm")
    faster = runs.assign(t_test=xr.full_like(runs.t_test, 0.4))
    made = remedies.trials(xr.concat([runs, faster], arms), "a", None)
    ends = np.log10([16.0, 32, 32, 8])  # the horizon is 32, and a step at least 1
    np.testing.assert_allclose(made.gain.sel(arm="remedy"), ends, rtol=1e-6)
