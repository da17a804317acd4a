"""The gradient flow of the committee machine, and its distance to descent."""

import itertools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import experiment, train
from grok_jax.engine import programs, runner
from grok_jax.theory import committee as theory

SIZES = dict(input_dim=8, train_size=30, test_size=10)
LOSSES = ("train_loss", "test_loss", "population_risk")


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def layer(name, width=20, rate=0.5, steps=1000, records=40, **model):
    return dict(
        task=SIZES,
        model=dict(name=name, width=width, **{"epsilon": 0.25, **model}),
        optimizer=dict(rule="lazy", learning_rate=rate),
        train=dict(steps=steps, records=records),
        observe=dict(population_risk={}),
    )


def gaps(one, other):
    """name -> the largest gap along training over the first value."""
    pairs = {
        n: (np.asarray(one[n], float), np.asarray(other[n], float)) for n in LOSSES
    }
    return {n: float(np.max(abs(a - b)) / b[0]) for n, (a, b) in pairs.items()}


# --- centred -------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "rate"), [(0.5, 0.1), (4.0, 0.5)])
def test_centred_exact_dynamics_are_autodiff_descent_of_the_centred_network(
    float64, run_alone, scale, rate
):
    own = dict(centered=True, output_scale=scale, rate=rate)
    names = ("committee", "committee_dynamics")
    network, exact = (run_alone(layer(name, **own))[1] for name in names)
    found = gaps(network, exact)
    print(f"largest gaps over the start: {found}")
    assert max(found.values()) < 1e-9
    assert exact["train_loss"][-1] < 0.5 * exact["train_loss"][0]


def test_centring_matters_where_the_output_scale_is_large(float64, run_alone):
    plain, centred = (
        run_alone(layer("committee_dynamics", output_scale=4.0, centered=c))[1]
        for c in (False, True)
    )
    assert abs(plain["train_loss"][0] / centred["train_loss"][0] - 1) > 0.1


# --- the flow ------------------------------------------------------------------------


def test_the_flow_is_that_of_another_method_at_a_tight_tolerance(float64):
    """Dormand-Prince 8(7) at 1e-10."""
    draw = np.random.default_rng(1)
    x, beta = draw.standard_normal((40, 6)) / np.sqrt(6), draw.standard_normal(6)
    x, y = jnp.asarray(x), jnp.asarray(0.5 * (x @ beta) ** 2)
    start = {"wbar": jnp.zeros(6), "factor": jnp.eye(6)}

    def velocity(params):
        loss = lambda p: jnp.mean((model.apply(p, x) - y) ** 2)  # noqa: E731
        model = theory.exact_dynamics(epsilon=0.5)
        return jax.tree.map(lambda leaf: -0.5 * leaf, jax.grad(loss)(params))

    def own(tolerance):
        model = theory.exact_flow(epsilon=0.5, rtol=tolerance, atol=tolerance)
        assert model.dynamics is not None
        dynamics = model.dynamics(velocity)
        return dynamics.advance(start, dynamics.init(start), 0, 3000)[0]

    reference = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, p, a: velocity(p)),
        diffrax.Dopri8(),
        *(0.0, 3000.0, 1.0, start),
        stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-10),
        max_steps=100_000,
    ).ys
    for tolerance in (1e-3, 1e-6):
        for name, leaf in own(tolerance).items():
            gap = jnp.max(abs(leaf - reference[name][0]))
            print(f"{name} at {tolerance:g}: {gap:.1e}")
            assert gap < 20 * tolerance


@pytest.mark.slow
@pytest.mark.parametrize("width", [0, 20])
@pytest.mark.parametrize("centered", [False, True])
def test_descent_comes_to_the_flow_at_first_order_in_its_rate(
    float64, run_alone, width, centered
):
    """At a fixed time, rate times steps."""
    own = dict(width=width, centered=centered, epsilon=0.5, output_scale=2.0)

    def final(name, rate, steps, **more):
        one = layer(name, rate=rate, steps=steps, records=1, **own, **more)
        return np.array([run_alone(one)[1][n][-1] for n in LOSSES], float)

    truth = final("committee_flow", 0.4, 200, rtol=1e-9, atol=1e-9)
    slow = final("committee_flow", 0.1, 800, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(slow, truth, rtol=1e-6)
    distance = [
        abs(final("committee_dynamics", 0.4 / k, 200 * k) - truth) for k in (1, 2, 4)
    ]
    print(f"distance to the flow over its value: {distance / truth}")
    for coarse, fine in itertools.pairwise(distance):
        np.testing.assert_allclose(coarse / fine, 2, rtol=0.1)


def test_at_the_papers_size_and_rate_descent_stays_near_the_flow(run_alone):
    """D = 100, P = 550, over the first 1,000 steps, in parts of the start."""
    sizes = dict(task=dict(input_dim=100, train_size=550, test_size=100))
    flow, descent = (
        run_alone(layer(name, width=0, epsilon=0.25), sizes)[1]
        for name in ("committee_flow", "committee_dynamics")
    )
    found = gaps(flow, descent)
    print(f"largest gaps over the start: {found}")
    assert max(found.values()) < 3e-3


@pytest.mark.parametrize("loss", ["squared_error", "exponential"])
@pytest.mark.parametrize("linearized", [False, True])
def test_the_flow_is_that_of_the_runs_own_loss_and_weights(
    float64, resolved, loss, linearized
):
    """At a small rate a step of descent is one unit of its time."""

    rate = 1e-6
    own = layer("committee_flow", rate=rate, steps=1, records=1, linearized=linearized)
    one = resolved(own, dict(loss=dict(name=loss))).plan.experiment
    data = experiment.make_dataset(one)
    x, y, weight = data.train.x, data.train.y, jnp.arange(len(data.train.y))
    data = data._replace(train=data.train._replace(weight=weight.astype(y.dtype)))
    state, _ = train.run(experiment.make(one), data, [0, 1])
    net = experiment.network_of(one).apply(state.anchor)
    mean = lambda p: weight @ one.loss().value(net(p, x), y) / sum(weight)  # noqa: E731
    for name, gradient in jax.grad(mean)(state.anchor).items():
        moved = state.params[name] - state.anchor[name]
        np.testing.assert_allclose(
            moved, -rate * gradient, rtol=1e-3, atol=1e-3 * rate * abs(gradient).max()
        )


# --- in the engine -------------------------------------------------------------------


def test_segments_cut_anywhere_have_the_same_bits(resolved, assert_identical):
    own = resolved(layer("committee_flow", steps=5000, records=25)).plan.experiment
    data = jax.jit(lambda: experiment.make_dataset(own))()
    run = experiment.make(own)
    steps = train.record_steps(5000, 25, "log")
    segment = jax.jit(lambda state, pieces: train.segment(run, state, data, pieces))

    def records(budgets):
        state, at, index, parts = jax.jit(run.init)(data), 0, 0, []
        while index < len(steps):
            pieces = programs.make_pieces(steps, at, index, next(budgets))
            state, new = segment(state, pieces)
            kept = pieces.index >= 0
            parts.append({name: leaf[kept] for name, leaf in new.items()})
            at, index = at + int(pieces.steps.sum()), index + int(kept.sum())
        names = parts[0]
        return {n: np.concatenate([part[n] for part in parts]) for n in names}, state

    def every(budget):
        while True:
            yield budget

    draw = np.random.default_rng(0)
    at_random = (int(b) for b in iter(lambda: draw.integers(1, 700), None))
    whole, state = records(every(10_000))
    for budgets in (every(37), at_random):
        cut, other = records(budgets)
        assert_identical(cut, whole)
        for a, b in zip(*map(jax.tree.leaves, (other, state)), strict=True):
            np.testing.assert_array_equal(a, b)


SWEEP = dict(sweep=dict(output_scale=(0.5, 2.0), epsilon=(0.25, 1.0), seed=(0, 1)))


def test_a_killed_sweep_of_flows_goes_on_to_the_same_bits(
    run_sweep, tmp_path, assert_identical
):
    own = (layer("committee_flow", steps=3000), SWEEP)
    whole, calls = run_sweep(*own), []

    def stop():
        calls.append(1)
        return len(calls) == 3

    with pytest.raises(runner.Interrupted):
        run_sweep(*own, folder=tmp_path, stop=stop, segment_seconds=0.05)
    resumed = run_sweep(*own, folder=tmp_path)
    assert len(calls) == 3
    names = (*LOSSES, "t_train", "t_test")
    assert_identical({n: resumed[n] for n in names}, {n: whole[n] for n in names})


def test_flows_side_by_side_are_the_flows_one_after_the_other(run_sweep):
    own = (layer("committee_flow", steps=3000, centered=True), SWEEP)
    one, many = (run_sweep(*own, mode=mode) for mode in ("map", "vmap"))
    for name in LOSSES:
        np.testing.assert_allclose(many[name], one[name], rtol=2e-2, atol=1e-4)


def test_a_flow_has_no_largest_stable_rate(run_sweep):
    """Descent diverges there."""
    stiff = dict(output_scale=1 / 32, epsilon=4.0)
    found = [
        bool(run_sweep(layer(name, **stiff, rate=1.0, width=0)).diverged)
        for name in ("committee_dynamics", "committee_flow")
    ]
    assert found == [True, False]
