"""Losses are per example; the weights are the caller's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import losses

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
