"""The statistics of the theories: exact cases and brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import alignment, losses, ntk, tree
from grok_jax.delay import evidence, tasks
from grok_jax.models import wrappers
from grok_jax.models.mlp import mlp
from grok_jax.observables import View
from grok_jax.rng import run_keys
from grok_jax.types import Dataset, Split

N, D, SEEN = 20, 4, 14


def data(weight):
    keys = jax.random.split(jax.random.key(0), 3)
    x, y, weak = (
        jax.random.normal(key, (N, k)) for key, k in zip(keys, (D, 2, 3), strict=True)
    )
    train = Split(x, y, weight)
    blank = Split(jnp.full((3, D), jnp.nan), jnp.full((3, 2), jnp.nan), jnp.ones(3))
    return Dataset(train, blank, {"weak": weak})


def view(model, *, output_scale=1.0, step=0.3, weight=None):
    """A network that has moved from its anchor at random; its test set is NaN."""
    weight = jnp.ones(N) if weight is None else weight
    made = data(weight)
    anchor = model.init(jax.random.key(1), made.train.x[:1])
    leaves, tree = jax.tree.flatten(anchor)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moves = [
        step * jax.random.normal(k, v.shape) for k, v in zip(keys, leaves, strict=True)
    ]
    params = jax.tree.map(jnp.add, anchor, jax.tree.unflatten(tree, moves))
    return View(
        apply=lambda p, x: output_scale * model.apply(p, x),
        params=params,
        anchor=anchor,
        data=made,
        kernel=lambda p, a, b, *rest: ntk.empirical_ntk(model.apply, p, a, None, *rest),
        lift=lambda function: function,
        loss=tasks.explained(),
        model={"output_scale": output_scale},
    )


NET = mlp(width=6, layers=1, outputs=2, activation="tanh")
LINEAR = mlp(width=6, layers=0, outputs=2)


def seen(now, **settings):
    """The statistics of a view, as one compiled program."""

    def all_of_it(params, anchor, data):
        own = now._replace(params=params, anchor=anchor, data=data)
        return evidence.evidence(own, points=N, **settings)

    return jax.jit(all_of_it)(now.params, now.anchor, now.data)


def measured(*args, **settings):
    return seen(view(*args, **settings))


def test_no_test_example_is_read():
    """Those of `view` are NaN."""
    assert all(np.isfinite(value) for value in measured(NET).values())


def test_examples_of_weight_zero_do_not_count():
    weight = (jnp.arange(N) % 10 < 7).astype(float)
    masked = view(NET, weight=weight)
    train = jax.tree.map(lambda leaf: leaf[weight > 0], masked.data.train)
    weak = masked.data.extras["weak"][weight > 0]
    alone = masked._replace(data=Dataset(train, masked.data.test, {"weak": weak}))
    one, two = (seen(each) for each in (masked, alone))
    assert len(train.x) == SEEN
    for name, value in one.items():
        np.testing.assert_allclose(value, two[name], rtol=2e-4, err_msg=name)


def test_the_kernel_has_the_output_scale_and_laziness_grows_with_it():
    """y^T K^-1 y falls with the square of the scale."""
    one, ten = measured(NET), measured(NET, output_scale=10.0)
    np.testing.assert_allclose(ten["laziness"], 10 * one["laziness"], rtol=1e-3)
    np.testing.assert_allclose(
        ten["kernel_alignment"], one["kernel_alignment"], rtol=1e-4
    )


def test_laziness_is_the_start_over_the_way_to_the_targets_for_a_linear_network():
    """The least-squares parameters of a linear network, by the pseudo-inverse with the
    same ridge."""
    now = view(LINEAR, step=0.0)
    x, y, _ = now.data.train
    y = y - y.mean(0, keepdims=True)
    features = jnp.concatenate([x, jnp.ones((N, 1))], axis=1)
    kernel = features @ features.T  # that of each output, and so their mean
    ridge = evidence.RIDGE * jnp.trace(kernel) / N
    way = jnp.sum(y * jnp.linalg.solve(kernel + ridge * jnp.eye(N), y)) ** 0.5
    size = jnp.sqrt(sum(jnp.sum(v**2) for v in jax.tree.leaves(now.anchor)))
    found = seen(now)["laziness"]
    np.testing.assert_allclose(found, size / way, rtol=1e-3)


def test_left_out_is_regression_without_each_example_in_turn():
    now = view(NET)
    x, y, _ = now.data.train
    y = np.asarray(y, float)
    y = y - y.mean(0)
    kernel = np.asarray(now.kernel(now.params, x, x), float)
    ridge = evidence.RIDGE * np.trace(kernel) / N
    errors = []
    for i in range(N):
        rest = np.arange(N) != i
        inner = kernel[np.ix_(rest, rest)] + ridge * np.eye(N - 1)
        errors.append(y[i] - kernel[i, rest] @ np.linalg.solve(inner, y[rest]))
    expected = 1 - np.sum(np.square(errors)) / np.sum(y**2)
    found = seen(now)["kernel_left_out"]
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_a_linear_network_learns_what_its_linearisation_does():
    assert measured(LINEAR)["linear_share"] == pytest.approx(1, abs=1e-5)
    assert measured(LINEAR)["kernel_distance"] == pytest.approx(0, abs=1e-6)
    small, large = measured(NET, step=0.01), measured(NET, step=1.0)
    assert small["linear_share"] > 0.99 > large["linear_share"]


def test_curvature_is_the_largest_eigenvalue_of_the_hessian():
    now = view(NET)
    x, y, weight = now.data.train
    flat, back = jax.flatten_util.ravel_pytree(now.params)

    def loss(flat):
        return losses.weighted_mean(now.loss.value(now.apply(back(flat), x), y), weight)

    values = jnp.linalg.eigvalsh(jax.hessian(loss)(flat))
    largest = values[jnp.argmax(jnp.abs(values))]
    found = seen(now)
    np.testing.assert_allclose(found["curvature"], largest, rtol=0.1)
    slope = jnp.linalg.norm(jax.grad(loss)(flat))
    np.testing.assert_allclose(found["gradient_norm"], slope, rtol=1e-4)


def test_the_embedding_is_compared_with_targets_and_a_weak_network():
    now = view(NET)
    table = now.params["layer_0"]["w"]
    inside = now.data.train.x @ table
    y, weak = now.data.train.y, now.data.extras["weak"]
    found = seen(now)
    for name, other in (("alignment", y), ("overlap", weak)):
        expected = alignment.cka(inside @ inside.T, other, centered=True)
        np.testing.assert_allclose(found[f"embedding_{name}"], expected, rtol=1e-4)
    power = np.linalg.svd(np.asarray(table))[1] ** 2
    expected = power.sum() ** 2 / np.sum(power**2) / len(power)
    np.testing.assert_allclose(found["embedding_rank"], expected, rtol=1e-4)
    assert "embedding_fourier" not in found


def test_an_embedding_of_two_factors_is_their_product():
    now, (a, b) = view(NET), jax.random.normal(jax.random.key(3), (2, D, D))
    apply = wrappers.factored(mlp(width=D, layers=1, outputs=2).apply)

    def found(w):
        head = {"w": jnp.ones((D, 2)), "b": jnp.zeros(2)}
        params = {"layer_0": {"w": w, "b": jnp.zeros(D)}, "layer_1": head}
        moved = now._replace(
            params=params,
            anchor=params,
            apply=apply,
            kernel=lambda p, x, *_: ntk.empirical_ntk(apply, p, x),
        )
        return seen(moved)

    factors, whole = found(tree.Factors(a, b)), found(a @ b)
    for name in ("embedding_alignment", "embedding_rank", "embedding_overlap"):
        np.testing.assert_allclose(factors[name], whole[name], rtol=1e-4)


def test_it_waits_for_the_train_accuracy_but_at_the_start():
    now = view(NET)
    accuracy = now.loss._replace(accuracy=lambda f, y: jnp.full(len(f), 0.6))
    now = now._replace(loss=accuracy)
    whole = seen(now)
    for above, measured in ((0.5, True), (0.7, False)):
        found = seen(now, above=above)
        for name, value in found.items():
            expected = whole[name] if measured else np.nan
            np.testing.assert_allclose(value, expected, rtol=1e-4, err_msg=name)
    start = now._replace(params=now.anchor)
    found = seen(start, above=0.7)
    assert all(np.isfinite(value) for value in found.values())


TASKS = [
    tasks.polynomial_pool,
    tasks.teacher_pool,
    tasks.parity_pool,
    tasks.xor_pool,
    tasks.pairs,
    tasks.token_pairs,
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: getattr(task, "__name__", "t"))
def test_a_fraction_changes_weights_alone_and_the_weak_network_sees_them_alone(task):
    small, large = (task(run_keys(3), train_fraction=f) for f in (0.25, 0.75))
    for one, two in zip(small.train[:2], large.train[:2], strict=True):
        np.testing.assert_array_equal(one, two)
    counts = [float(each.train.weight.sum()) for each in (small, large)]
    total = len(small.train.x)
    assert counts == pytest.approx([0.25 * total, 0.75 * total], abs=0.51)
    assert small.extras["weak"].shape == (total, tasks.WEAK_WIDTH)
    assert float(jnp.abs(small.extras["weak"] - large.extras["weak"]).max()) > 1e-3


@pytest.mark.parametrize("task", TASKS[:2], ids=lambda task: task.__name__)
def test_targets_of_regression_have_unit_variance(task):
    y = jnp.concatenate([task(run_keys(seed)).train.y for seed in range(20)])
    assert float(jnp.mean(y)) == pytest.approx(0, abs=0.15)
    assert float(jnp.var(y)) == pytest.approx(1, abs=0.25)


def test_both_methods_shrink_the_weights_by_rate_times_decay():
    params, gradient = {"w": jnp.array([2.0])}, {"w": jnp.array([0.0])}
    for method in ("adamw", "momentum"):
        tx = tasks.decayed(method=method, learning_rate=0.1, weight_decay=0.5)
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update(gradient, state, params)
            np.testing.assert_allclose(updates["w"], -0.1 * 0.5 * 2.0, rtol=1e-6)


def test_a_run_ends_when_train_and_test_accuracy_are_reached():
    def rule(train, test):
        record = {
            "train_accuracy": jnp.asarray(train),
            "test_accuracy": jnp.asarray(test),
        }
        return float(tasks.generalised(record, train=0.9, test=0.8))

    assert rule(0.95, 0.85) >= 0
    assert rule(0.85, 0.85) < 0
    assert rule(0.95, 0.75) < 0
