"""Optimisers against their recursions; the learning-rate rule against its purpose."""

import functools
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.tree import norm

from grok_jax import experiment, optim
from grok_jax.engine import config
from grok_jax.losses import squared_error
from grok_jax.models import wrappers
from grok_jax.models.committee import committee

CURVATURE = jnp.array([1.0, 3.0, 0.5])
START = jnp.array([1.0, -2.0, 0.7])


def descend(tx, steps, start=START):
    """The course [steps, 3] on the parabola sum(CURVATURE x^2) / 2."""

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(CURVATURE * params, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (start, tx.init(start)), None, steps)[1]


def test_gradient_descent_on_a_parabola_is_its_closed_form():
    course = descend(optim.gradient_descent(learning_rate=0.3), 20)
    shrunk = np.asarray(1 - 0.3 * CURVATURE) ** np.arange(1, 21)[:, None]
    expected = np.asarray(START) * shrunk
    np.testing.assert_allclose(course, expected, rtol=1e-4, atol=1e-7)


def test_momentum_is_the_heavy_ball_recursion():
    course = descend(optim.gradient_descent(learning_rate=0.1, momentum=0.9), 10)
    x, velocity = np.asarray(START, float), 0.0
    for params in course:
        velocity = 0.9 * velocity + np.asarray(CURVATURE) * x
        x = x - 0.1 * velocity
        np.testing.assert_allclose(params, x, rtol=1e-4, atol=1e-6)


def test_without_momentum_there_is_no_state_to_carry():
    assert not jax.tree.leaves(optim.gradient_descent(learning_rate=1.0).init(START))
    assert jax.tree.leaves(optim.gradient_descent(momentum=0.5).init(START))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_traced_learning_rate_gives_the_same_course_in_one_trace(momentum):
    traces = []

    @jax.jit
    def course(rate):
        traces.append(rate)
        return descend(optim.gradient_descent(learning_rate=rate, momentum=momentum), 5)

    for rate in (0.1, 0.2, 0.3):
        tx = optim.gradient_descent(learning_rate=rate, momentum=momentum)
        np.testing.assert_allclose(course(rate), descend(tx, 5), rtol=1e-5)
    assert len(traces) == 1


def test_adamw_decays_the_weights_apart_from_the_gradient():
    tx = optim.adamw(learning_rate=0.01, weight_decay=2.0)
    updates, _ = tx.update(jnp.zeros(3), tx.init(START), START)
    np.testing.assert_allclose(updates, -0.01 * 2.0 * START, rtol=1e-6)
    plain = optim.adamw(learning_rate=0.01)
    updates, _ = plain.update(1e-3 * START, plain.init(START), START)
    np.testing.assert_allclose(updates, -0.01 * jnp.sign(START), rtol=1e-3)


# --- eta = eta0 N / alpha^2 ----------------------------------------------------------


@functools.partial(jax.jit, static_argnames="copies")
def initial_velocity(output_scale, copies=1):
    """df/dt at step 0 of the centred committee, each weight vector held `copies`
    times (the same function at a larger width)."""
    model = committee(width=6 * copies, epsilon=0.4)
    x = jax.random.normal(jax.random.key(1), (9, 4))
    y = jnp.sin(x[:, 0])
    weights = jax.random.normal(jax.random.key(2), (6, 4))
    params = {"w": jnp.tile(weights, (copies, 1))}
    net = wrappers.scale_output(wrappers.center(model.apply, params), output_scale)
    rate = optim.lazy_learning_rate(0.5, output_scale, model.width)

    def loss(params):
        return jnp.mean(squared_error(net(params, x), y))

    direction = jax.tree.map(lambda g: -rate * g, jax.grad(loss)(params))
    return jax.jvp(lambda p: net(p, x), (params,), (direction,))[1]


def test_the_lazy_rule_makes_the_initial_velocity_independent_of_the_output_scale():
    with jax.enable_x64(True):
        reference = initial_velocity(1.0)
        assert abs(reference).max() > 0.1
        for output_scale in (2.0**-5, 0.3, 7.0, 2.0**5):
            np.testing.assert_allclose(
                initial_velocity(output_scale), reference, rtol=1e-12
            )


def test_the_lazy_rule_makes_the_initial_velocity_independent_of_the_width():
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            initial_velocity(2.0, copies=5), initial_velocity(2.0), rtol=1e-12
        )


def test_the_lazy_rule_at_scale_and_width_one_changes_nothing():
    assert optim.lazy_learning_rate(0.37, 1.0) == 0.37


# --- fixed norm ----------------------------------------------------------------------

LAYERS = {"a": {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}, "c": jnp.full(4, -2.0)}


def course_of(tx, steps, scale):
    """Norms [steps] of LAYERS x scale, pulled towards 3 everywhere."""
    start = jax.tree.map(lambda leaf: scale * leaf, LAYERS)

    def step(carry, _):
        params, state = carry
        pull = jax.tree.map(lambda leaf: leaf - 3.0, params)
        updates, state = tx.update(pull, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), norm(params)

    (end, _), norms = jax.lax.scan(step, (start, tx.init(start)), None, steps)
    return norms / norm(start), end


@pytest.mark.parametrize("name", ["gradient_descent", "adamw"])
def test_the_norm_of_all_parameters_holds_over_a_run_under_vmap(name):
    tx = optim.fixed_norm(getattr(optim, name)(learning_rate=0.05))
    many = jax.jit(jax.vmap(lambda scale: course_of(tx, 3000, scale)))
    norms, end = many(jnp.array([0.1, 1.0, 10.0]))
    np.testing.assert_allclose(norms, 1.0, rtol=1e-6)
    free, _ = course_of(getattr(optim, name)(learning_rate=0.05), 3000, 0.1)
    assert abs(free[-1] - 1) > 0.5
    # On the sphere the pull ends where all parameters are equal.
    spread = jax.tree.map(lambda leaf: float(jnp.std(leaf[1])), end)
    assert max(jax.tree.leaves(spread)) < 1e-3


def test_the_fixed_norm_counts_each_parameter_once():
    tx = optim.fixed_norm(optax.identity())
    updates, _ = tx.update(LAYERS, tx.init(LAYERS), LAYERS)  # doubles, and back
    for update in jax.tree.leaves(updates):
        np.testing.assert_allclose(update, 0.0, atol=1e-6)


def test_the_fixed_norm_needs_parameters():
    tx = optim.fixed_norm(optax.sgd(0.1))
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(LAYERS, tx.init(LAYERS))


def test_decay_beside_the_rate_is_the_recursion_of_the_xor_paper():
    tx = optim.gradient_descent(learning_rate=0.1, weight_decay=0.05)
    x = np.asarray(START, float)
    for params in descend(tx, 10):
        x = (1 - 0.05) * x - 0.1 * np.asarray(CURVATURE) * x
        np.testing.assert_allclose(params, x, rtol=1e-5)


# --- rivals ---------------------------------------------------------------------------

GRADIENTS = jax.random.normal(jax.random.key(3), (9, 4))


def filtered(tx, gradients=GRADIENTS, params=None):
    """What `tx` makes of gradients [T, d] one after another."""
    like = jnp.zeros(gradients.shape[1]) if params is None else params

    def step(state, g):
        out, state = tx.update(g, state, like)
        return state, out

    return jax.lax.scan(step, tx.init(like), gradients)[1]


def test_grokfast_ema_is_its_recursion():
    seen = filtered(optim.grokfast_ema(decay=0.7, strength=3.0))
    mean = np.asarray(GRADIENTS[0], float)
    for g, out in zip(np.asarray(GRADIENTS, float), seen, strict=True):
        mean = 0.7 * mean + 0.3 * g
        np.testing.assert_allclose(out, g + 3 * mean, rtol=1e-5, atol=1e-6)


def test_grokfast_ma_waits_for_a_full_window_and_then_adds_its_mean():
    seen = filtered(optim.grokfast_ma(window=4, strength=5.0))
    np.testing.assert_array_equal(seen[:3], GRADIENTS[:3])
    for t in range(3, len(GRADIENTS)):
        mean = np.mean(np.asarray(GRADIENTS, float)[t - 3 : t + 1], axis=0)
        np.testing.assert_allclose(seen[t], GRADIENTS[t] + 5 * mean, rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        optim.grokfast_ema,
        lambda strength: optim.grokfast_ma(window=3, strength=strength),
    ],
    ids=["ema", "ma"],
)
def test_strength_zero_is_the_optimiser_itself_and_strengths_share_one_trace(make):
    plain = descend(optax.adam(0.1), 12)
    without = descend(optax.chain(make(strength=0.0), optax.adam(0.1)), 12)
    np.testing.assert_allclose(without, plain, rtol=1e-5)  # XLA fuses it differently
    traces = []

    def course(strength):
        traces.append(strength)
        return filtered(make(strength=strength))

    both = jax.jit(jax.vmap(course))(jnp.array([0.5, 2.0]))
    assert len(traces) == 1
    np.testing.assert_allclose(both[1], filtered(make(strength=2.0)), rtol=1e-6)


def test_the_orthogonal_gradient_leaves_nothing_along_the_weights_at_its_old_length():
    key_w, key_g = jax.random.split(jax.random.key(1))
    params = {"w": jax.random.normal(key_w, (5, 3)), "b": jnp.zeros(3)}
    grads = {"w": jax.random.normal(key_g, (5, 3)), "b": jnp.arange(3.0)}
    tx = optim.orthogonal_gradient()
    out, _ = tx.update(grads, tx.init(params), params)
    assert abs(float(jnp.sum(out["w"] * params["w"]))) < 1e-5
    np.testing.assert_allclose(norm(out["w"]), norm(grads["w"]), rtol=1e-5)
    np.testing.assert_allclose(out["b"], grads["b"], rtol=1e-6)  # no weights, no part


def test_a_gradient_along_its_weights_and_a_gradient_of_zero_become_zero():
    tx, w = optim.orthogonal_gradient(), jnp.array([1.0, 2.0, -3.0])
    for g in (0.3 * w, jnp.zeros(3)):
        out, _ = tx.update(g, tx.init(w), w)
        np.testing.assert_array_equal(out, 0)


def test_the_orthogonal_gradient_needs_the_weights():
    tx = optim.orthogonal_gradient()
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))


@pytest.mark.parametrize("gradient", ["grokfast_ema", "grokfast_ma", "orthogonal"])
def test_a_run_cut_anywhere_carries_the_filter_along(gradient):
    window = dict(window=3) if gradient == "grokfast_ma" else {}
    own = config.resolve(
        config.make_config(
            dict(
                task=dict(name="teacher_student", train_size=6, test_size=4),
                model=dict(name="mlp", width=4, outputs=5),
                optimizer=dict(name="adamw"),
                gradient={gradient: window},
            )
        )
    ).plan.experiment
    run, data = experiment.make(own), experiment.make_dataset(own)

    @jax.jit
    def end(cuts):
        state = run.init(data)
        for steps in cuts:
            state = run.advance(state, data, 0, steps)
        return state.params

    whole, cut = end(jnp.array([10, 0])), end(jnp.array([4, 6]))
    jax.tree.map(np.testing.assert_array_equal, whole, cut)
    plain = experiment.make(own._replace(gradient=OrderedDict()))
    other = plain.advance(plain.init(data), data, 0, 10).params
    differs = jax.tree.map(lambda a, b: bool((a != b).any()), whole, other)
    assert any(jax.tree.leaves(differs))
