"""The random teacher: what it answers, how it is drawn, what the data depend on."""

import functools

import jax
import numpy as np

from grok_jax.models.mlp import mlp
from grok_jax.rng import run_keys
from grok_jax.tasks.teacher_student import teacher_student


@functools.cache
def program(**settings):
    return jax.jit(functools.partial(teacher_student, **settings))


def make(seed=0, **settings):
    small = {"teacher_width": 7, "train_size": 12, "test_size": 8}
    return program(**small | settings)(run_keys(seed))


def test_the_targets_are_the_answers_of_the_teacher():
    data = make()
    w, b = ([np.float64(data.extras[f"{n}_{i}"]) for i in range(3)] for n in "wb")
    for split, size in ((data.train, 12), (data.test, 8)):
        y = np.float64(split.x)
        for i in range(3):
            y = y @ w[i] + b[i]
            y = np.tanh(y) if i < 2 else y
        assert split.x.shape == (size, 5) and split.y.shape == (size, 5)
        np.testing.assert_allclose(split.y, y, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(split.weight, np.ones(size))


def test_a_student_with_the_teachers_weights_makes_no_error():
    data = make()
    student = mlp(width=7, layers=2, outputs=5, activation="tanh")
    params = {
        f"layer_{i}": {name: data.extras[f"{name}_{i}"] for name in "wb"}
        for i in range(3)
    }
    f = jax.jit(student.apply)(params, data.test.x)
    np.testing.assert_allclose(f, data.test.y, rtol=1e-5, atol=1e-6)


LARGE = dict(teacher_width=150, outputs=200, input_dim=40, train_size=500)


def test_inputs_are_standard_normal():
    x = np.float64(make(**LARGE).train.x)
    covariance = x.T @ x / 500
    np.testing.assert_allclose(covariance, np.eye(40), atol=6 * np.sqrt(2 / 500))
    assert abs(np.mean(x**2) - 1) < 5 * np.sqrt(2 / x.size)
    assert abs(np.mean(x**4) - 3) < 5 * np.sqrt(96 / x.size)


def test_the_teacher_is_drawn_as_a_student_of_scale_one():
    """Uniform in +-1 / sqrt(fan in), biases included, each leaf by itself."""
    teacher = make(**LARGE).extras
    units = []
    for i, inputs in enumerate((40, 150, 150)):
        for name in "wb":
            u = np.ravel(np.float64(teacher[f"{name}_{i}"])) * np.sqrt(inputs)
            assert abs(u).max() <= 1 and 1 - abs(u).max() < 20 / u.size
            assert abs(u.mean()) < 5 * np.sqrt(1 / 3 / u.size)
            assert abs(np.mean(u**2) - 1 / 3) < 5 * np.sqrt(4 / 45 / u.size)
            units.append(u[:150])
    correlation = np.corrcoef(units) - np.eye(6)
    assert abs(correlation).max() < 5 / np.sqrt(150)


def test_a_larger_set_begins_with_the_smaller_one_of_the_same_seed():
    small, large = make(), make(train_size=40, test_size=30)
    for name in ("train", "test"):
        few, many = getattr(small, name), getattr(large, name)
        np.testing.assert_array_equal(many.x[: len(few.x)], few.x)
        np.testing.assert_allclose(many.y[: len(few.y)], few.y, rtol=1e-5, atol=1e-6)


def test_train_and_test_share_no_example():
    data = make()
    assert not np.isin(data.train.x, data.test.x).any()


def test_the_data_follow_the_data_key_alone():
    def leaves(keys):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(draw(keys))])

    draw = program(teacher_width=7, train_size=12, test_size=8)
    own, other = run_keys(0), run_keys(9)
    np.testing.assert_array_equal(leaves(own), leaves(other._replace(data=own.data)))
    assert not np.array_equal(leaves(own), leaves(own._replace(data=other.data)))
