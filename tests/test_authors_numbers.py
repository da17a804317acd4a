"""Numbers that the authors of Omnigrok print in their notebooks, as references that are
independent of this code."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from grok_jax import launch
from grok_jax.models.mlp import mlp
from grok_jax.models.wrappers import scale_init
from grok_jax.theory import landscape

SEEDS = jax.random.split(jax.random.key(0), 10)
PAGE = "experiments/omnigrok/o1_landscape.py"


def twice(params):
    """The notebooks' squared norm, in which the first layer's weights count twice."""
    return optax.tree.norm(params) ** 2 + jnp.sum(params["layer_0"]["w"] ** 2)


@pytest.mark.parametrize(
    ("alpha", "printed"), [(0.1, 1.073967), (1.0, 107.396729), (2.0, 429.586853)]
)
def test_the_student_starts_at_the_norm_of_teacher_student_landscape(alpha, printed):
    model = scale_init(mlp(width=100, activation="tanh", outputs=5), alpha)
    found = [twice(model.init(key, jnp.zeros((1, 5)))) for key in SEEDS]
    np.testing.assert_allclose(np.mean(found), printed, rtol=0.03)


def test_the_digits_start_at_the_norm_of_mnist_grokking():
    """93.5 at alpha = 8, where the curve of the notebook's figure begins."""
    model = scale_init(mlp(width=200, outputs=10), 8.0)
    found = [optax.tree.norm(model.init(key, jnp.zeros((1, 784)))) for key in SEEDS]
    np.testing.assert_allclose(np.mean(found), 93.5, rtol=0.005)


def test_weight_decay_shrinks_the_norm_as_in_regression_grokking():
    """Printed with gamma 0.05 at the rate 3e-4 from alpha = 2, once it has fitted."""
    steps = np.array([0, 4000, 8000, 12_000])
    printed = [374.189331, 332.221497, 295.034241, 262.079315]  # from step 4,000 on
    law = landscape.norm_decay(printed[0] ** 0.5, 0.05, 3e-4, steps) ** 2
    np.testing.assert_allclose(law, printed, rtol=0.01)


@pytest.mark.optimised
def test_the_reduced_losses_are_those_of_teacher_student_landscape(run_sweep):
    page, _ = launch.load_experiment(PAGE)
    printed = dict(zip(page.ALPHAS, page.NOTEBOOK, strict=True))
    alphas = (3.981, 6.31, 10.0)
    short = dict(train=dict(steps=2000, records=2))
    swept = dict(sweep=dict(init_scale=alphas, seed=(0, 1, 2)))
    results = run_sweep(page.get_config("cpu").to_dict(), short, swept)
    found = results.test_loss.isel(step=-1).median("seed")
    np.testing.assert_allclose(
        np.log(found), np.log([printed[alpha] for alpha in alphas]), atol=np.log(2)
    )
