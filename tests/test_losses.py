"""Losses are per example; the weights are the caller's."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import losses
from grok_jax.ntk.jaxprs import flatten

F = np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 3.0]], np.float32)
Y = np.array([[1.0, 0.0], [1.0, 0.0], [3.0, 3.5]], np.float32)


def test_squared_error_is_the_sum_over_outputs_without_a_half():
    np.testing.assert_allclose(losses.squared_error(F, Y), ((F - Y) ** 2).sum(1))


def test_one_output_may_be_a_column_or_none():
    one = losses.squared_error(F[:, 0], Y[:, 0])
    np.testing.assert_array_equal(one, losses.squared_error(F[:, :1], Y[:, :1]))


def test_an_example_is_right_strictly_below_the_tolerance():
    f, y = jnp.array([0.0, 0.5, 1.0]), jnp.zeros(3)
    for tolerance, right in ((0.25, [1.0, 0.0, 0.0]), (0.2501, [1.0, 1.0, 0.0])):
        accuracy = losses.regression(tolerance=tolerance).accuracy(f, y)
        assert accuracy.tolist() == right


def test_the_tolerance_moves_the_accuracy_and_not_the_loss():
    f, y = jnp.linspace(0, 1, 11), jnp.zeros(11)
    strict, mild = losses.regression(tolerance=0.01), losses.regression(tolerance=0.5)
    np.testing.assert_array_equal(strict.value(f, y), mild.value(f, y))
    assert strict.accuracy(f, y).sum() < mild.accuracy(f, y).sum()


def test_a_traced_tolerance_equals_a_plain_one():
    f, y = jnp.linspace(0, 1, 11), jnp.zeros(11)
    traced = jax.jit(lambda t: losses.regression(tolerance=t).accuracy(f, y))(0.3)
    np.testing.assert_array_equal(
        traced, losses.regression(tolerance=0.3).accuracy(f, y)
    )


def test_weighted_mean_with_equal_weights_is_the_mean_and_zero_leaves_out():
    values = jnp.array([1.0, 2.0, 6.0])
    for weight in (1.0, 0.25):
        mean = losses.weighted_mean(values, jnp.full(3, weight))
        np.testing.assert_allclose(mean, 3.0, rtol=1e-6)
    masked = losses.weighted_mean(values, jnp.array([1.0, 1.0, 0.0]))
    assert masked == losses.weighted_mean(values[:2], jnp.ones(2)) == 1.5


def test_a_weight_of_zero_has_no_gradient():
    def mean(values):
        return losses.weighted_mean(values**2, jnp.array([1.0, 0.0, 1.0]))

    np.testing.assert_allclose(jax.grad(mean)(jnp.ones(3)), [1.0, 0.0, 1.0])


def test_one_hot_regression_is_the_mean_over_outputs_and_the_largest_output_counts():
    loss = losses.classification(error="squared_error")
    y = jax.nn.one_hot(jnp.array([0, 1, 1]), 2)
    np.testing.assert_allclose(
        loss.value(F, y), ((F - np.asarray(y)) ** 2).mean(1), rtol=1e-6
    )
    assert loss.accuracy(F, y).tolist() == [0.0, 0.0, 0.0]
    assert loss.accuracy(F[:, ::-1], y).tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("shape", [(5,), (5, 3)])
def test_every_loss_is_zero_and_right_at_the_target(shape):
    y = jnp.asarray(np.random.default_rng(0).normal(size=shape))
    loss = losses.regression()
    assert loss.value(y, y).tolist() == [0.0] * 5
    assert loss.accuracy(y, y).tolist() == [1.0] * 5


def test_the_mean_over_outputs_divides_loss_and_threshold_by_their_number():
    total, mean = losses.regression(), losses.regression(outputs="mean")
    np.testing.assert_allclose(mean.value(F, Y), total.value(F, Y) / 2, rtol=1e-6)
    three = losses.regression(outputs="mean", tolerance=0.3)
    assert three.accuracy(F, Y).tolist() == [0.0, 0.0, 1.0]  # 2, 1 and 1/8


def test_cross_entropy_is_minus_the_log_of_the_softmax_at_the_label():
    loss, labels = losses.classification(), jnp.array([0, 0, 1])
    expected = -np.log((np.exp(F) / np.exp(F).sum(1, keepdims=True))[range(3), labels])
    np.testing.assert_allclose(loss.value(F, labels), expected, rtol=1e-6)
    one_hot = jax.nn.one_hot(labels, 2)
    np.testing.assert_allclose(loss.value(F, one_hot), expected, rtol=1e-6)
    for y in (labels, one_hot):
        assert loss.accuracy(F, y).tolist() == [0.0, 1.0, 0.0]


def test_binary_cross_entropy_is_that_of_two_classes_with_one_logit():
    loss, f = losses.binary_cross_entropy(), jnp.array([2.0, -1.0, 0.5])
    y = jnp.array([1.0, 1.0, 0.0])
    logits = jnp.stack([jnp.zeros(3), f], axis=1)
    two = losses.classification().value(logits, y.astype(int))
    np.testing.assert_allclose(loss.value(f, y), two, rtol=1e-6)
    assert loss.accuracy(f, y).tolist() == [1.0, 0.0, 0.0]


def test_the_exponential_loss_is_one_at_zero_and_zero_has_no_sign():
    loss, f = losses.exponential(), jnp.array([2.0, -1.0, 0.0, 0.0, -3.0])
    y = jnp.array([1.0, 1.0, 1.0, -1.0, -1.0])
    expected = np.exp([-2.0, 1.0, 0.0, 0.0, -3.0])
    np.testing.assert_allclose(loss.value(f, y), expected, rtol=1e-6)
    assert loss.accuracy(f, y).tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]
    slope = jax.grad(lambda f: jnp.sum(loss.value(f, y)))(f)
    np.testing.assert_allclose(slope, -y * expected, rtol=1e-6)


def exact_cross_entropy(f, y):
    """Loss [n] and its gradient [n, C] in float64, in no form that cancels."""
    f, at = np.asarray(f, np.float64), np.arange(f.shape[1]) == np.asarray(y)[:, None]
    beside = np.exp(f - f[at][:, None])  # e^(f_c - f_y)
    rest = np.where(at, 0, beside).sum(1)
    p = beside / (1 + rest)[:, None]
    return np.log1p(rest), np.where(at, -(rest / (1 + rest))[:, None], p)


def sure_logits(n=200, classes=113):
    """Logits [n, C] and labels [n]: the right one leads by 0 to 60, or is behind by as
    much. Multiples of 1/8, so that their differences are exact in float32."""
    rng = np.random.default_rng(0)
    f, y = rng.normal(size=(n, classes)) * 4, rng.integers(0, classes, n)
    f[np.arange(n), y] = f.max(1) + np.linspace(-60, 60, n)
    return (np.round(8 * f) / 8).astype(np.float32), y


@partial(jax.jit, static_argnames="loss")
def value_and_grad(f, y, loss=losses.cross_entropy):
    value, back = jax.vjp(lambda f: loss(f, y), f)
    return value, back(jnp.ones_like(value))[0]


@pytest.mark.parametrize("one_hot", [False, True])
def test_cross_entropy_and_its_gradient_keep_their_precision_where_p_rounds_to_1(
    one_hot,
):
    f, y = sure_logits()
    value, grad = exact_cross_entropy(f, y)
    assert value.min() < 1e-24 and value.max() > 50
    target = jnp.eye(f.shape[1], dtype=f.dtype)[y] if one_hot else jnp.asarray(y)
    found = value_and_grad(jnp.asarray(f), target)
    np.testing.assert_allclose(found[0], value, rtol=1e-6)
    np.testing.assert_allclose(found[1], grad, rtol=1e-6, atol=1e-37)
    # what it replaces has lost both
    value, grad = value_and_grad(jnp.asarray(f), target, losses.naive_cross_entropy)
    sure = np.linspace(-60, 60, len(f)) > 25
    assert (value[sure] == 0).all() and (grad[sure, y[sure]] == 0).all()


@pytest.mark.parametrize("one_hot", [False, True])
def test_cross_entropy_equals_the_naive_form_at_moderate_logits(one_hot):
    rng = np.random.default_rng(1)
    f = jnp.asarray(rng.normal(size=(50, 7)), jnp.float32)
    y = jnp.arange(50) % 7
    y = jax.nn.one_hot(y, 7) if one_hot else y
    for ours, theirs in zip(
        value_and_grad(f, y),
        value_and_grad(f, y, losses.naive_cross_entropy),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=3e-7)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("size", [1e4, float(jnp.finfo(jnp.float32).max) / 4])
def test_cross_entropy_is_finite_to_second_order_at_extreme_logits(size, one_hot):
    rows = [[1, -1, 0], [-1, 1, 0], [1, 1, 1], [-1, -1, -1], [0, 1, 1], [0, 0, 0]]
    f, y = size * jnp.array(rows, jnp.float32), jnp.array([0, 0, 1, 2, 0, 1])
    y = jax.nn.one_hot(y, 3) if one_hot else y
    value, grad = value_and_grad(f, y)
    expected = np.array(
        [0, 2 * size, np.log(3), np.log(3), size + np.log(2), np.log(3)]
    )
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    third = [[1 / 3, -2 / 3, 1 / 3], [1 / 3, 1 / 3, -2 / 3], [1 / 3, -2 / 3, 1 / 3]]
    slopes = [[0, 0, 0], [-1, 1, 0], *third[:2], [-1, 0.5, 0.5], third[2]]
    np.testing.assert_allclose(grad, slopes, rtol=1e-6)
    hessian = jax.jit(jax.hessian(lambda f: losses.cross_entropy(f, y).sum()))(f)
    assert jnp.isfinite(hessian).all()


def test_cross_entropy_has_the_derivatives_of_its_definition_in_float64():
    def plain(f, y):  # with soft targets, by logsumexp
        return y.sum(-1) * jax.nn.logsumexp(f, axis=-1) - (y * f).sum(-1)

    @partial(jax.jit, static_argnums=0)
    def derivatives(loss, f, y, direction):
        def total(f):
            return loss(f, y).sum()

        grad = jax.grad(total)
        forward = jax.jvp(grad, (f,), (direction,))[1]
        along = jax.jvp(total, (f,), (direction,))[1]
        return total(f), grad(f), along, forward, jax.hessian(total)(f)

    with jax.enable_x64(True):
        rng = np.random.default_rng(2)
        f = jnp.asarray(rng.normal(size=(6, 4)) * 3).at[0].set(0.0)  # all tied
        soft = jnp.asarray(rng.dirichlet(np.ones(4), size=6))
        direction = jnp.asarray(rng.normal(size=f.shape))
        for y in (jnp.asarray(np.eye(4)[np.arange(6) % 4]), soft, soft * 0 + 0.25):
            ours, theirs = (
                derivatives(loss, f, y, direction)
                for loss in (losses.cross_entropy, plain)
            )
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


def test_weights_leave_examples_out_of_a_cross_entropy_and_its_gradient():
    f, y = sure_logits(20, 5)
    weight = jnp.asarray(np.arange(20) % 3, jnp.float32)

    @jax.jit
    @jax.value_and_grad
    def mean(f):
        return losses.weighted_mean(losses.cross_entropy(f, jnp.asarray(y)), weight)

    found = mean(jnp.asarray(f))
    value, grad = exact_cross_entropy(f, y)
    share = np.asarray(weight) / np.asarray(weight).sum()
    np.testing.assert_allclose(found[0], share @ value, rtol=1e-6)
    np.testing.assert_allclose(found[1], share[:, None] * grad, rtol=2e-6, atol=1e-37)


def test_one_class_has_no_cross_entropy_and_labels_out_of_range_have_nan():
    f = jnp.array([[1e4], [-3.0]])
    value, grad = value_and_grad(f, jnp.array([0, 0]))
    assert value.tolist() == [0, 0] and grad.tolist() == [[0], [0]]
    value = losses.cross_entropy(jnp.zeros((3, 2)), jnp.array([-1, 2, 1]))
    assert jnp.isnan(value).tolist() == [True, True, False]


@pytest.mark.parametrize("one_hot", [False, True])
def test_cross_entropy_looks_nothing_up_and_runs_share_one_comparison(one_hot):
    """Under vmap over runs with shared targets nothing of the targets' size is made for
    each run: what compares with them keeps the shape [n, C]."""
    runs, n, classes = 3, 5, 4
    y = jnp.eye(classes)[jnp.arange(n) % classes] if one_hot else jnp.arange(n) % 4

    def gradient(f, y):
        return jax.value_and_grad(lambda f: losses.cross_entropy(f, y).mean())(f)

    batched = jax.vmap(gradient, in_axes=(0, None))
    made = jax.make_jaxpr(batched)(jnp.ones((runs, n, classes)), y)
    found = [each.eqn for each in flatten(made).statements]
    names = {equation.primitive.name for equation in found}
    assert not {name for name in names if "gather" in name or "scatter" in name}
    assert "dynamic_slice" not in names and "exp" in names
    compared = [e.outvars[0].aval.shape for e in found if e.primitive.name == "eq"]
    assert compared == [(n, classes)]


def test_binary_cross_entropy_keeps_its_precision_and_is_finite():
    f = np.linspace(-60, 60, 241).astype(np.float32)
    loss = losses.binary_cross_entropy()
    for label in (0, 1):
        y = jnp.full(f.shape, label, jnp.float32)
        side = (1 - 2 * label) * f.astype(np.float64)  # softplus of it is the loss
        slope = (1 - 2 * label) / (1 + np.exp(-side))
        value, grad = value_and_grad(jnp.asarray(f), y, loss.value)
        np.testing.assert_allclose(value, np.logaddexp(side, 0), rtol=1e-6)
        np.testing.assert_allclose(grad, slope, rtol=1e-6)
    for size in (1e4, float(jnp.finfo(jnp.float32).max) / 4):
        f, y = size * jnp.array([1.0, -1, 1, -1]), jnp.array([1.0, 0, 0, 1])
        value, grad = value_and_grad(f, y, loss.value)
        np.testing.assert_allclose(value, [0, 0, size, size], rtol=1e-6)
        assert grad.tolist() == [0, 0, 1, -1]


def stablemax_by_hand(f, y):
    s = np.where(f >= 0, f + 1, 1 / (1 - np.minimum(f, 0)))
    return -np.log(s[np.arange(len(f)), y] / s.sum(-1))


def test_stablemax_is_its_definition_for_labels_and_one_hot():
    f = np.random.default_rng(0).normal(size=(20, 5)) * 10
    y = np.arange(20) % 5
    expected = stablemax_by_hand(f, y)
    f32 = jnp.asarray(f, jnp.float32)
    for target in (jnp.asarray(y), jnp.eye(5)[y]):
        found = losses.stablemax_cross_entropy(f32, target)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_stablemax_moves_logits_at_which_softmax_stands_still():
    f, y = jnp.array([[200.0, -200.0, 0.0]]), jnp.array([0])
    still = jax.grad(lambda f: losses.naive_cross_entropy(f, y).sum())(f)
    moves = jax.grad(lambda f: losses.stablemax_cross_entropy(f, y).sum())(f)
    np.testing.assert_array_equal(still, 0)
    assert (moves != 0).all()


@pytest.mark.parametrize("size", [0.0, 1.0, 1e8])
def test_stablemax_and_its_gradient_are_finite_at_any_size(size):
    f, y = size * jnp.array([[1.0, -1.0, 0.5]]), jnp.array([1])
    value, grad = jax.value_and_grad(
        lambda f: losses.stablemax_cross_entropy(f, y).sum()
    )(f)
    assert jnp.isfinite(value) and jnp.isfinite(grad).all()


def test_stablemax_has_the_slope_of_softmax_at_zero():
    f, y = jnp.zeros((1, 4)), jnp.array([2])
    slopes = [
        jax.grad(lambda f, loss=loss: loss(f, y).sum())(f)
        for loss in (losses.naive_cross_entropy, losses.stablemax_cross_entropy)
    ]
    np.testing.assert_allclose(slopes[0], slopes[1], atol=1e-6)
