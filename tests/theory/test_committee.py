"""Closed forms of the committee machine against quadrature, brute force and descent."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import ntk
from grok_jax.models import wrappers
from grok_jax.models.committee import committee
from grok_jax.theory import committee as theory

DIM, WIDTH = 4, 9


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def quadrature(dim=DIM):
    """Nodes [n, D] and weights [n] of N(0, I / D), exact for polynomials of degree 5
    in each coordinate."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = weights / weights.sum()
    x = np.array(list(itertools.product(nodes, repeat=dim))) / np.sqrt(dim)
    w = np.array([np.prod(each) for each in itertools.product(weights, repeat=dim)])
    return jnp.asarray(x), jnp.asarray(w)


def network(w, x, alpha, epsilon, readout=None):
    h = x @ w.T
    phi = h + 0.5 * epsilon * h**2
    return alpha * jnp.mean(phi if readout is None else phi * readout[None], axis=-1)


def target(x, beta):
    return 0.5 * (x @ beta) ** 2


# --- statistics and predictions ------------------------------------------------------


@pytest.mark.parametrize("readouts", [False, True])
def test_the_statistics_predict_what_the_network_predicts(float64, readouts):
    w, x = normal(0, WIDTH, DIM), normal(1, 20, DIM)
    readout = normal(2, WIDTH) if readouts else None
    wbar, m = theory.summary_statistics(w, readout)
    np.testing.assert_allclose(
        theory.predict(wbar, m, x, 1.7, 0.3),
        network(w, x, 1.7, 0.3, readout),
        rtol=1e-10,
    )


def test_readouts_of_one_are_no_readouts(float64):
    w = normal(0, WIDTH, DIM)
    for with_ones, without in zip(
        theory.summary_statistics(w, jnp.ones(WIDTH)),
        theory.summary_statistics(w),
        strict=True,
    ):
        np.testing.assert_allclose(with_ones, without, rtol=1e-12)


def test_the_statistics_of_many_random_weights_are_those_of_infinite_width():
    width = 40_000
    wbar, m = theory.summary_statistics(normal(0, width, DIM))
    assert abs(wbar).max() < 4 / np.sqrt(width)
    assert abs(m - np.eye(DIM)).max() < 4 * np.sqrt(2 / width)


# --- population risk -----------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "epsilon"), [(1.0, 0.25), (0.3, 2.0), (4.0, 1.0)])
def test_the_risk_is_the_mean_squared_error_by_exact_quadrature(
    float64, alpha, epsilon
):
    wbar, m = theory.summary_statistics(normal(0, 5, DIM))
    beta = normal(1, DIM)
    x, weight = quadrature()
    error = theory.predict(wbar, m, x, alpha, epsilon) - target(x, beta)
    risk = theory.population_risk(wbar, m, beta, alpha, epsilon)
    np.testing.assert_allclose(risk.total, jnp.sum(weight * error**2), rtol=1e-12)


@pytest.mark.parametrize("readouts", [False, True])
def test_the_risk_is_the_test_loss_of_the_network_within_its_standard_error(readouts):
    dim, samples = 6, 200_000
    w, beta = normal(0, WIDTH, dim), normal(1, dim)
    readout = normal(2, WIDTH) if readouts else None
    x = normal(3, samples, dim) / np.sqrt(dim)
    errors = np.square(network(w, x, 1.3, 0.5, readout) - target(x, beta))
    wbar, m = theory.summary_statistics(w, readout)
    risk = theory.population_risk(wbar, m, beta, 1.3, 0.5).total
    assert abs(errors.mean() - risk) < 4 * errors.std() / np.sqrt(samples)


def test_the_solved_case_has_no_risk(float64):
    beta = normal(1, DIM)
    m = jnp.outer(beta, beta) / (1.3 * 0.5)
    risk = theory.population_risk(jnp.zeros(DIM), m, beta, 1.3, 0.5)
    np.testing.assert_allclose(jnp.stack(risk), 0, atol=1e-30)
    assert theory.predict(jnp.zeros(DIM), m, beta[None], 1.3, 0.5) == pytest.approx(
        target(beta[None], beta)
    )


def test_linear_power_is_all_that_is_left_when_the_quadratic_part_is_solved(float64):
    beta, wbar = normal(1, DIM), normal(2, DIM)
    m = jnp.outer(beta, beta) / 0.5
    risk = theory.population_risk(wbar, m, beta, 2.0, 0.25)
    np.testing.assert_allclose(risk[:2], 0, atol=1e-30)
    np.testing.assert_allclose(risk.linear_power, 4 * jnp.sum(wbar**2) / DIM)


def test_variance_error_alone_is_zero_when_the_trace_agrees(float64):
    beta = normal(1, DIM)
    m = jnp.eye(DIM) * jnp.sum(beta**2) / DIM / 0.5
    risk = theory.population_risk(jnp.zeros(DIM), m, beta, 2.0, 0.25)
    np.testing.assert_allclose(risk.variance_error, 0, atol=1e-30)
    assert risk.linear_power == 0 and risk.misalignment_error > 0.01


def test_misalignment_is_zero_only_at_the_target_itself(float64):
    beta = normal(1, DIM)
    for factor in (0.5, 2.0):
        m = factor * jnp.outer(beta, beta) / 0.5
        risk = theory.population_risk(jnp.zeros(DIM), m, beta, 2.0, 0.25)
        scale = (factor - 1) ** 2 * jnp.sum(beta**2) ** 2 / DIM**2
        np.testing.assert_allclose(risk.misalignment_error, scale / 2, rtol=1e-12)
        np.testing.assert_allclose(risk.variance_error, scale / 4, rtol=1e-12)


# --- kernel --------------------------------------------------------------------------


def brute_force_kernel(w, x1, x2, alpha, epsilon):
    def f(w, x):
        return network(w, x[None], alpha, epsilon)[0]

    jacobians = [jax.vmap(jax.grad(f), (None, 0))(w, x) for x in (x1, x2)]
    flat = [j.reshape(len(j), -1) for j in jacobians]
    return flat[0] @ flat[1].T


@pytest.mark.parametrize(("alpha", "epsilon"), [(1.0, 0.25), (3.0, 1.5)])
def test_the_kernel_is_the_brute_force_kernel_up_to_its_prefactor(
    float64, alpha, epsilon
):
    w, x1, x2 = normal(0, WIDTH, DIM), normal(1, 6, DIM), normal(2, 5, DIM)
    wbar, m = theory.summary_statistics(w)
    brute = brute_force_kernel(w, x1, x2, alpha, epsilon) * WIDTH / alpha**2
    closed = theory.ntk(wbar, m, x1, x2, epsilon=epsilon)
    np.testing.assert_allclose(closed, brute, rtol=1e-10, atol=1e-12)


def test_the_kernel_is_the_empirical_kernel_of_the_committee_model(float64):
    model = committee(width=WIDTH, epsilon=0.7)
    x = normal(1, 6, DIM)
    params = model.init(jax.random.key(0), x)
    wbar, m = theory.statistics_of(params)
    empirical = ntk.empirical_ntk(model.apply, params, x)
    closed = theory.ntk(wbar, m, x, epsilon=0.7)
    np.testing.assert_allclose(closed, empirical * WIDTH, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(closed, closed.T, rtol=1e-12)


def test_the_kernels_share_in_the_target_grows_with_the_alignment_of_m(float64):
    """The numerator of the CKA is a quarter of eq. 20, which leaves out the 1/2 of y =
    (beta . x)^2 / 2; wbar, and the linear part, take no part in it."""
    x, weight = quadrature()
    beta, epsilon = normal(3, DIM), 0.7
    wbar, m = theory.summary_statistics(normal(4, WIDTH, DIM))
    weighted = weight * target(x, beta)
    numerator = weighted @ theory.ntk(wbar, m, x, epsilon=epsilon) @ weighted
    size = jnp.sum(beta**2)
    eq20 = epsilon**2 / DIM**4 * (size**2 * jnp.trace(m) + 8 * size * beta @ m @ beta)
    np.testing.assert_allclose(numerator, eq20 / 4, rtol=1e-10)


def test_the_spectrum_is_that_of_the_kernel_under_the_input_law(float64):
    """Exact moments: the quadrature integrates products of two kernel rows exactly."""
    dim, epsilon = DIM, 0.6
    x, weight = quadrature()
    kernel = theory.ntk(jnp.zeros(dim), jnp.eye(dim), x, epsilon=epsilon)
    root = jnp.sqrt(weight)
    values = np.linalg.eigvalsh(root[:, None] * kernel * root[None])[::-1]
    spectrum = theory.initial_spectrum(dim, epsilon)
    traceless = dim * (dim + 1) // 2 - 1
    expected = np.sort(
        [spectrum["linear"]] * dim
        + [spectrum["traceless_quadratic"]] * traceless
        + [spectrum["norm"]]
    )[::-1]
    np.testing.assert_allclose(values[: len(expected)], expected, rtol=1e-10)
    np.testing.assert_allclose(values[len(expected) :], 0, atol=1e-12)


def test_kernel_regression_needs_samples_in_the_square_of_the_dimension(float64):
    """Eq. 17: samples in proportion to D are enough for |x|^2 / 2D and no more; the
    rest is learned where there are as many as eigenfunctions, D (D + 3) / 2."""
    dim = 40
    beta = np.sqrt(dim) * np.eye(dim)[0]
    start = partial(theory.ntk, jnp.zeros(dim), jnp.eye(dim), epsilon=1.0)
    new = normal(1, 2000, dim) / np.sqrt(dim)
    truth = target(new, beta)
    size_alone = np.mean((0.5 * np.sum(new**2, axis=1) - truth) ** 2)
    for samples, low, high in ((6 * dim, 0.8, 1.2), (dim * (dim + 3) // 2, 0.0, 1e-6)):
        x = normal(2, samples, dim) / np.sqrt(dim)
        dual = jnp.linalg.solve(start(x), target(x, beta))
        risk = np.mean((start(new, x) @ dual - truth) ** 2)
        assert low <= risk / size_alone <= high
    assert np.mean(truth**2) > 1.4 * size_alone


# --- one step ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "epsilon", "eta0"), [(1.0, 0.25, 0.5), (0.25, 1.0, 0.1), (4.0, 0.5, 1.0)]
)
def test_a_step_of_the_statistics_is_a_step_of_the_weights(
    float64, alpha, epsilon, eta0
):
    w, beta = normal(0, WIDTH, DIM), normal(1, DIM)
    x = normal(2, 12, DIM) / np.sqrt(DIM)
    y = target(x, beta)

    def loss(w):
        return jnp.mean((network(w, x, alpha, epsilon) - y) ** 2)

    wbar, m = theory.summary_statistics(w, None)
    for _ in range(5):
        w = w - eta0 * WIDTH / alpha**2 * jax.grad(loss)(w)
        wbar, m = theory.gradient_step(wbar, m, x, y, alpha, epsilon, eta0)
        expected = theory.summary_statistics(w)
        np.testing.assert_allclose(wbar, expected[0], rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(m, expected[1], rtol=1e-10, atol=1e-13)


def test_a_solved_network_stays_where_it_is(float64):
    beta = normal(1, DIM)
    x = normal(2, 12, DIM)
    m = jnp.outer(beta, beta) / (2 * 0.25)
    moved = theory.gradient_step(
        jnp.zeros(DIM), m, x, target(x, beta), 2.0, 0.25, eta0=0.5
    )
    np.testing.assert_allclose(moved[0], 0, atol=1e-14)
    np.testing.assert_allclose(moved[1], m, rtol=1e-12)


def test_the_step_is_traceable_in_every_number(float64):
    wbar, m = theory.summary_statistics(normal(0, WIDTH, DIM))
    x, y = normal(2, 12, DIM), normal(3, 12)
    alphas = jnp.array([0.5, 1.0, 2.0])
    step = jax.vmap(theory.gradient_step, (None,) * 4 + (0, None, None))
    batched = jax.jit(step)(wbar, m, x, y, alphas, 0.25, 0.5)
    for i, alpha in enumerate(alphas):
        for one, many in zip(
            theory.gradient_step(wbar, m, x, y, alpha, 0.25, 0.5), batched, strict=True
        ):
            np.testing.assert_allclose(one, many[i], rtol=1e-12)


# --- the factored statistics ---------------------------------------------------------


@pytest.mark.parametrize("width", [2, DIM, WIDTH])
def test_the_factor_of_any_weights_gives_their_statistics_back(float64, width):
    """Fewer weights than dimensions have a singular covariance."""
    wbar, m = theory.summary_statistics(normal(0, width, DIM))
    for own, expected in zip(
        theory.statistics_of(theory.factored(wbar, m)), (wbar, m), strict=True
    ):
        np.testing.assert_allclose(own, expected, rtol=1e-7, atol=1e-12)


def descend(params, x, y, alpha, epsilon, eta0):
    """The parameters of `exact_dynamics` after a step of gradient descent."""
    apply = theory.exact_dynamics(epsilon=epsilon).apply
    loss = lambda p: jnp.mean((alpha * apply(p, x) - y) ** 2)  # noqa: E731
    rate = eta0 / alpha**2
    return jax.tree.map(lambda p, g: p - rate * g, params, jax.grad(loss)(params))


@pytest.mark.parametrize(("alpha", "epsilon"), [(1.0, 0.25), (0.25, 1.0), (4.0, 0.5)])
def test_a_step_of_the_factor_is_the_step_of_the_statistics(float64, alpha, epsilon):
    wbar, m = theory.summary_statistics(normal(0, WIDTH, DIM))
    x, y = normal(2, 12, DIM) / np.sqrt(DIM), normal(3, 12)
    params = theory.factored(wbar, m)
    for _ in range(5):
        wbar, m = theory.gradient_step(wbar, m, x, y, alpha, epsilon, 0.2)
        params = descend(params, x, y, alpha, epsilon, 0.2)
        expected = theory.statistics_of(params)
        np.testing.assert_allclose(wbar, expected[0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(m, expected[1], rtol=1e-9, atol=1e-12)


def late(step, second, dim=6, steps=50_000):
    """(risk, least eigenvalue of the covariance) late in training by one of the two
    steps, from infinite width."""
    x, beta = normal(2, 80, dim) / np.sqrt(dim), normal(1, dim)
    y = target(x, beta)

    @jax.jit
    def descend():
        start = (jnp.zeros(dim), jnp.eye(dim))
        return jax.lax.fori_loop(
            0, steps, lambda _, s: step(*s, x, y, 1.0, 1.0, 1.0), start
        )

    wbar, m = second(*descend())
    risk = theory.population_risk(wbar, m, beta, 1.0, 1.0).total
    wbar, m = np.asarray(wbar, float), np.asarray(m, float)
    return float(risk), np.linalg.eigvalsh(m - np.outer(wbar, wbar)).min()


def test_the_statistics_move_as_far_as_the_weights_over_the_root_of_n(float64):
    alpha, epsilon, eta0 = 1.3, 0.4, 0.2
    w0, x, y = normal(0, WIDTH, DIM), normal(1, 12, DIM), normal(2, 12)
    params = first = theory.factored(*theory.summary_statistics(w0))

    def loss(w):
        return jnp.mean((network(w, x, alpha, epsilon) - y) ** 2)

    w = w0
    for _ in range(5):
        w = w - eta0 * WIDTH / alpha**2 * jax.grad(loss)(w)
        params = descend(params, x, y, alpha, epsilon, eta0)
    change = jax.tree.map(jnp.subtract, params, first)
    distance = jnp.sqrt(sum(jnp.sum(v**2) for v in jax.tree.leaves(change)))
    expected = jnp.linalg.norm(w - w0) / WIDTH**0.5
    np.testing.assert_allclose(distance, expected, rtol=1e-9)


def test_late_in_training_the_factor_keeps_what_rounding_takes_from_the_statistics():
    """In float32 M leaves the cone of positive matrices; F F^T cannot."""

    def statistics(wbar, factor):
        return theory.statistics_of({"wbar": wbar, "factor": factor})

    def step(wbar, factor, *rest):
        moved = descend({"wbar": wbar, "factor": factor}, *rest)
        return moved["wbar"], moved["factor"]

    with jax.enable_x64(True):
        truth, least = late(theory.gradient_step, lambda *s: s)
    assert 0 < least < 1e-5 and truth < 1e-7
    assert late(theory.gradient_step, lambda *s: s)[1] < 0
    risk, _ = late(step, statistics)
    assert risk == pytest.approx(truth, rel=0.05)


# --- the model of the statistics -----------------------------------------------------


def both(width, epsilon=0.4):
    return committee(width=width, epsilon=epsilon), theory.exact_dynamics(
        width=width, epsilon=epsilon
    )


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_the_dynamics_start_from_the_weights_that_the_committee_draws(scale):
    x = normal(1, 7, DIM)
    net, statistics = (wrappers.scale_init(m, scale) for m in both(WIDTH))
    key = jax.random.key(3)
    weights, start = net.init(key, x), statistics.init(key, x)
    for own, expected in zip(
        theory.statistics_of(start), theory.statistics_of(weights), strict=True
    ):
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        statistics.apply(start, x), net.apply(weights, x), rtol=1e-4, atol=1e-5
    )
    kernel = ntk.empirical_ntk(statistics.apply, start, x)
    for expected in (
        ntk.empirical_ntk(net.apply, weights, x) * WIDTH,
        theory.ntk(*theory.statistics_of(start), x, epsilon=0.4),
    ):
        np.testing.assert_allclose(kernel, expected, rtol=1e-4, atol=1e-4)


def test_width_zero_is_the_limit_of_large_width():
    x = normal(1, 7, DIM)
    limit = theory.exact_dynamics(width=0).init(jax.random.key(0), x)
    wbar, m = theory.statistics_of(limit)
    np.testing.assert_array_equal(wbar, jnp.zeros(DIM))
    np.testing.assert_array_equal(m, jnp.eye(DIM))
    wide = theory.exact_dynamics(width=40_000).init(jax.random.key(0), x)
    wbar, m = theory.statistics_of(wide)
    assert abs(wbar).max() < 4 / 200
    assert abs(m - np.eye(DIM)).max() < 4 * np.sqrt(2) / 200


def courses(run_alone, sizes, width, steps, records=40):
    """Records of direct gradient descent and of the exact dynamics."""
    common = dict(
        task=sizes,
        optimizer=dict(rule="lazy", learning_rate=0.5),
        train=dict(steps=steps, records=records),
        observe=dict(population_risk={}),
    )
    names = ("committee", "committee_dynamics")
    return [
        run_alone(common, dict(model=dict(name=name, width=width, epsilon=0.25)))[1]
        for name in names
    ]


def largest_gap(descent, exact, name):
    a, b = (np.asarray(records[name], float) for records in (descent, exact))
    return np.max(abs(a - b) / b)


def test_exact_dynamics_and_direct_descent_agree_to_rounding_in_float64(
    float64, run_alone
):
    sizes = dict(input_dim=8, train_size=30, test_size=10)
    descent, exact = courses(run_alone, sizes, width=20, steps=1000)
    names = ("train_loss", "test_loss", "population_risk")
    gaps = {name: largest_gap(descent, exact, name) for name in names}
    print(f"largest relative gaps: {gaps}")
    assert max(gaps.values()) < 1e-9
    assert exact["train_loss"][-1] < 0.1 * exact["train_loss"][0]


def test_at_the_papers_size_they_agree_within_1e_4_over_2000_steps(run_alone):
    sizes = dict(input_dim=100, train_size=550, test_size=100)
    descent, exact = courses(run_alone, sizes, width=500, steps=2000)
    gap = largest_gap(descent, exact, "train_loss")
    print(f"largest relative gap of the train loss: {gap:.2e}")
    assert gap < 1e-4
    assert exact["train_loss"][-1] < 0.1 * exact["train_loss"][0]
