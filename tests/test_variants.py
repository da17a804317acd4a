"""Variants of the polynomial task and of the committee, and the new observables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import alignment, losses, measures, ntk, observables, optim, rng
from grok_jax.hermite import hermite
from grok_jax.models.committee import committee
from grok_jax.models.fnn import fnn
from grok_jax.settings import SettingError
from grok_jax.tasks.modular import modular
from grok_jax.tasks.polynomial import polynomial
from grok_jax.theory import committee as theory
from grok_jax.types import Dataset, Split

SMALL = dict(input_dim=6, train_size=20, test_size=10)


def test_a_multi_index_target_is_the_sum_over_directions():
    data = polynomial(rng.run_keys(0), directions=3, **SMALL)
    z = data.train.x @ data.extras["betas"].T
    np.testing.assert_allclose(data.train.y, 0.5 * jnp.sum(z**2, axis=1), rtol=1e-4)
    one = polynomial(rng.run_keys(0), **SMALL)
    np.testing.assert_array_equal(one.extras["beta"], data.extras["betas"][0])
    np.testing.assert_array_equal(one.train.x, data.train.x)


def test_a_hermite_target_has_a_direction_of_unit_variance():
    data = polynomial(rng.run_keys(0), degree=3, **SMALL)
    beta = data.extras["beta"]
    np.testing.assert_allclose(jnp.sum(beta**2), 6, rtol=1e-5)
    expected = 0.5 * hermite(3, data.test.x @ beta)
    np.testing.assert_allclose(data.test.y, expected, rtol=1e-3, atol=1e-4)


def test_the_activation_follows_the_degree():
    x = jax.random.normal(jax.random.key(0), (5, 6))
    params = {"w": jax.random.normal(jax.random.key(1), (7, 6))}
    h = x @ params["w"].T
    for degree in (2, 3, 4):
        model = committee(width=7, epsilon=0.3, degree=degree)
        expected = jnp.mean(h + 0.15 * hermite(degree, h), axis=1)
        np.testing.assert_allclose(model.apply(params, x), expected, rtol=1e-4)


def test_trained_read_outs_have_the_papers_kernel_at_initialisation():
    """Eq. 23, up to the fluctuation of 40,000 units."""
    x = jax.random.normal(jax.random.key(0), (5, 6)) / jnp.sqrt(6)
    model = committee(width=40_000, epsilon=0.5, readout="trained")
    params = model.init(jax.random.key(1), x)
    measured = model.width * ntk.empirical_ntk(model.apply, params, x)
    gram, norm = x @ x.T, jnp.sum(x**2, axis=1)
    expected = 2 * gram + 0.375 * gram**2 + 0.0625 * jnp.outer(norm, norm)
    np.testing.assert_allclose(measured, expected, atol=0.1)


def test_statistics_with_read_outs_predict_the_network():
    x = jax.random.normal(jax.random.key(0), (5, 6))
    model = committee(width=9, epsilon=0.5, readout="trained")
    params = model.init(jax.random.key(1), x)
    wbar, m = theory.statistics_of(params)
    np.testing.assert_allclose(
        model.apply(params, x),
        theory.predict(wbar, m, x, 1.0, 0.5),
        rtol=1e-3,
        atol=1e-5,
    )


def test_a_wholly_aligned_start_solves_the_task():
    data = polynomial(rng.run_keys(0), **SMALL)
    model = committee(width=8, epsilon=0.5, aligned_share=1.0)
    zero = {"w": jnp.zeros((8, 6))}
    solved = model.prepare(zero, data)
    np.testing.assert_allclose(model.apply(solved, data.test.x), data.test.y, atol=1e-5)


def test_no_aligned_share_changes_no_bit():
    data = polynomial(rng.run_keys(0), **SMALL)
    model = committee(width=8)
    params = model.init(jax.random.key(0), data.train.x)
    np.testing.assert_array_equal(model.prepare(params, data)["w"], params["w"])


def test_decoupled_decay_shrinks_the_weights_by_its_own_rate():
    tx = optim.adamw(learning_rate=0.1, weight_decay=0.5)
    params = jnp.array([2.0, -4.0])
    updates, _ = tx.update(jnp.zeros(2), tx.init(params), params)
    np.testing.assert_allclose(params + updates, params * (1 - 0.1 * 0.5), rtol=1e-6)


def view_of(data: Dataset):
    model = committee(width=8)
    params = model.init(jax.random.key(0), data.train.x)

    def kernel(p, x1, x2, kind="trace"):
        return ntk.empirical_ntk(model.apply, p, x1, kind=kind)

    own = (model.apply, params, params, data, kernel, lambda f: f)
    return observables.View(*own, losses.regression(), {}), kernel


def one_table():
    """Train and test examples with one output that share a table."""
    data = modular(rng.run_keys(0), modulus=5, train_fraction=0.6)
    return data._replace(
        train=data.train._replace(y=data.train.y[:, 0]),
        test=data.test._replace(y=data.test.y[:, 0]),
    )


@pytest.mark.parametrize("points", [0, 7, 22])
def test_the_alignment_is_that_of_the_examples_of_each_set_alone(points):
    """Also where more are asked for than there are: the table has 25 rows."""
    data = one_table()
    view, kernel = view_of(data)
    record = observables.kernel_alignment(view, points=points)
    for name in ("train", "test"):
        split = getattr(data, name)
        rows = np.flatnonzero(split.weight)[: points or None]
        assert 7 <= len(rows) < 22
        x, y = split.x[rows], split.y[rows]
        own = kernel(view.params, x, x)
        for prefix, centered in (("cka", False), ("cka_centered", True)):
            np.testing.assert_allclose(
                record[f"{prefix}_{name}"],
                alignment.cka(own, y, centered),
                rtol=1e-4,
            )


def test_examples_without_weight_are_never_observed():
    data = one_table()
    view, kernel = view_of(data)
    record = observables.kernel_snapshots(view, points=10)
    rows = np.flatnonzero(data.test.weight)[:10]
    expected = kernel(view.params, data.test.x[rows], data.test.x[rows])
    np.testing.assert_allclose(record["ntk"], expected, rtol=1e-5)
    np.testing.assert_array_equal(record["ntk_targets"], data.test.y[rows])
    too_many = observables.kernel_snapshots(view, points=11)  # the test set has 10
    assert np.isnan(too_many["ntk"]).all()


def test_a_snapshot_may_be_of_the_kernel_of_the_summed_outputs():
    data = modular(rng.run_keys(0), modulus=5, train_fraction=0.6)
    model = fnn(embedding=0, width=7, layers=2, outputs=5)
    params = model.init(jax.random.key(0), data.test.x)

    def kernel(p, x1, x2, kind="trace"):
        return ntk.empirical_ntk(model.apply, p, x1, kind=kind)

    own = (model.apply, params, params, data, kernel, lambda f: f)
    view = observables.View(*own, losses.regression(), {})
    record = observables.kernel_snapshots(view, points=4, kind="pseudo")
    rows = np.flatnonzero(data.test.weight)[:4]
    summed = ntk.empirical_ntk(
        lambda p, x: model.apply(p, x).sum(axis=1), params, data.test.x[rows]
    )
    np.testing.assert_allclose(record["ntk"], summed / 5, rtol=1e-5)


def test_difficulty_is_how_far_a_linear_model_moves():
    """|w - w0|^2 of the least solution that fits, whatever the output scale."""
    x = jax.random.normal(jax.random.key(0), (5, 9))
    y = jax.random.normal(jax.random.key(1), (5,))
    padded = Split(jnp.append(x, x[:1], 0), jnp.append(y, 7.0), jnp.r_[jnp.ones(5), 0])
    w0 = jax.random.normal(jax.random.key(2), (9,))

    def kernel(p, x1, x2, kind="trace"):
        return x1 @ x2.T

    own = (lambda w, x: 3.0 * x @ w, w0, w0, Dataset(padded, padded, {}), kernel)
    settings = dict(output_scale=3.0)
    view = observables.View(*own, lambda f: f, losses.regression(), settings)
    moved = jnp.linalg.lstsq(3.0 * x, y - 3.0 * x @ w0)[0]
    record = observables.difficulty(view)
    np.testing.assert_allclose(record["difficulty"], jnp.sum(moved**2), rtol=1e-4)


def test_difficulty_is_that_of_the_closed_form():
    view, kernel = view_of(polynomial(rng.run_keys(0), **SMALL))
    view = view._replace(model=dict(output_scale=1.0))
    x, y, _ = view.data.train
    gram = kernel(view.params, x, x) + 1e-3 * jnp.eye(len(y))
    expected = alignment.difficulty(gram, y - view.apply(view.params, x))
    ridged = view._replace(kernel=lambda *_: gram)
    np.testing.assert_allclose(
        observables.difficulty(ridged)["difficulty"], expected, rtol=1e-3
    )


def test_difficulty_is_for_one_output():
    view, _ = view_of(modular(rng.run_keys(0), modulus=5))
    with pytest.raises(SettingError, match="one output"):
        observables.difficulty(view)


def test_norms_of_the_leaves_make_the_weight_norm():
    view, _ = view_of(polynomial(rng.run_keys(0), **SMALL))
    record = observables.norms(view)
    np.testing.assert_allclose(record["weight_norm_w"], record["weight_norm"])
    assert record["relative_displacement"] == 0


def test_half_way_is_reached_in_either_direction():
    steps = [0, 1, 2, 3]
    assert measures.half_way(steps, [1.0, 0.9, 0.4, 0.0]) == 2
    assert jnp.isnan(measures.half_way(steps, [1.0, 1.0, 1.0, 1.0]))
    gaps = [0.0, jnp.nan, 0.6, 1.0]
    assert measures.half_way(steps, gaps) == 2


def test_the_last_recorded_value_is_before_the_end_of_a_run():
    curves = jnp.array([[1.0, 2.0, jnp.nan], [3.0, jnp.nan, 4.0]])
    np.testing.assert_array_equal(measures.last_recorded(curves), [2.0, 4.0])
