"""Regression on a random teacher network (Liu et al. 2023, Omnigrok, Fig. 2)."""

from itertools import pairwise

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.rng import Keys, gaussian_rows, named_key
from grok_jax.settings import Count
from grok_jax.types import Dataset, Split


def teacher_student(
    keys: Keys,
    *,
    input_dim: Count = 5,
    outputs: Count = 5,
    teacher_width: Count = 100,
    train_size: Count = 100,
    test_size: Count = 100,
) -> Dataset:
    """x ~ N(0, I_D); y is the output of a tanh network D-K-K-C, where K is the
    teacher's width, with weights and biases from U(-k, k), k = 1 / sqrt(fan in).

    Shapes: x [n, D], y [n, C]; extras hold the teacher, w_i [in, out] and b_i [out] for
    layers i = 0, 1, 2. For the same seed, a larger train set begins with the smaller
    one, and likewise a test set.
    """
    teacher = _draw_teacher(
        named_key(keys.data, "teacher"),
        (input_dim, teacher_width, teacher_width, outputs),
    )

    def split(name: str, size: int) -> Split:
        x = gaussian_rows(named_key(keys.data, name), size, input_dim)
        return Split(x, answer(teacher, x), jnp.ones(size))

    return Dataset(split("train", train_size), split("test", test_size), teacher)


def _draw_teacher(key: Array, sizes: tuple[int, ...]) -> dict[str, Array]:
    teacher = {}
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        for name, shape in ((f"w_{i}", (inputs, outputs)), (f"b_{i}", (outputs,))):
            unit = jax.random.uniform(named_key(key, name), shape, minval=-1.0)
            teacher[name] = unit * inputs**-0.5
    return teacher


def answer(teacher: dict[str, Array], x: Array) -> Array:
    """The outputs [n, C] of a teacher, as in the task's extras, for x [n, D]."""
    y = x
    for i in range(3):
        y = jnp.matmul(y, teacher[f"w_{i}"], precision="highest")
        y = y + teacher[f"b_{i}"][None]
        y = jnp.tanh(y) if i < 2 else y
    return y
