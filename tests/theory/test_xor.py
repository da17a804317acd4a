"""XOR clusters: what few neurons can do, the norm ratio and the one step."""

import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import launch, observables, rng
from grok_jax.losses import exponential
from grok_jax.models.cluster_net import cluster_net
from grok_jax.tasks.xor import xor_clusters
from grok_jax.theory import xor

CLUSTERS = np.array([[1, 1], [-1, -1], [1, -1], [-1, 1]])
LABELS = CLUSTERS.prod(axis=1)


def accuracy(w, a):
    """Share of the four clusters that each net is right on; w [B, m, 2], a [B, m]."""
    hidden = np.maximum(np.einsum("bmd,cd->bcm", w, CLUSTERS), 0)
    f = np.einsum("bcm,bm->bc", hidden, a)
    return np.mean(f * LABELS[None] > 0, axis=1)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_no_net_of_few_neurons_is_better_than_its_bound(width):
    """Among random ones, and among all whose weights are on a coarse grid."""
    draws = np.random.default_rng(width)
    w = draws.standard_normal((100_000, width, 2))
    a = draws.standard_normal((100_000, width))
    best = accuracy(w, a).max()
    grid = np.array([-2.0, -1.0, 0.0, 1.0])
    place = draws.integers(0, 4, (100_000, width, 2))
    best = max(best, accuracy(grid[place], np.sign(a)).max())
    assert best == xor.best_accuracy(width) == width / 4


def test_one_neuron_for_each_cluster_knows_them_all():
    w, a = CLUSTERS[None].astype(float), LABELS[None].astype(float)
    for width in (1, 2, 3, 4):
        (share,) = accuracy(w[:, :width], a[:, :width])
        assert share == xor.best_accuracy(width)
    assert xor.best_accuracy(5) == 1 and xor.best_accuracy(0) == 0


def test_the_directions_found_are_counted_by_the_quadrants_of_the_neurons():
    draws = np.random.default_rng(3)
    signal = draws.standard_normal((200, 2, 3))
    signs = np.moveaxis(np.sign(signal), 1, 2)  # [net, neuron, 2]
    expected = [len({tuple(neuron) for neuron in net}) for net in signs]
    np.testing.assert_array_equal(xor.directions_found(signal), expected)
    assert set(expected) == {1, 2, 3}
    signal[0, :, 1] = np.nan
    kept = {tuple(neuron) for neuron in signs[0, [0, 2]]}
    assert int(xor.directions_found(signal[0])) == len(kept)


def test_no_noise_helps_that_is_as_likely_as_its_opposite():
    """The population is what the examples and their mirror images make together."""
    draws = np.random.default_rng(0)
    noise = draws.choice([-1.0, 1.0], (50, 6))
    x = np.concatenate(
        [np.repeat(CLUSTERS, 50, axis=0), np.tile(noise, (4, 1))], axis=1
    )
    x = np.concatenate([x, -x])
    y = x[:, 0] * x[:, 1]
    for width in (1, 2, 3):
        w = draws.standard_normal((300, width, 8))
        a = draws.standard_normal((300, width))
        f = np.einsum("bnm,bm->bn", np.maximum(np.einsum("bmd,nd->bnm", w, x), 0), a)
        assert np.mean(f * y[None] > 0, axis=1).max() <= width / 4 + 1e-12


def test_a_negative_width_is_refused():
    with pytest.raises(ValueError, match=r"^A network cannot have -1 neurons\.$"):
        xor.best_accuracy(-1)


def test_the_norm_ratio_is_its_formula_and_one_for_weights_of_one_law():
    draws = np.random.default_rng(0)
    params = {
        "signal": jnp.asarray(draws.standard_normal((2, 5))),
        "noise": jnp.asarray(0.1 * draws.standard_normal((30, 5))),
    }
    signal, noise = (np.linalg.norm(params[name]) for name in ("signal", "noise"))
    expected = (noise / np.sqrt(30)) / (signal / np.sqrt(2))
    np.testing.assert_allclose(xor.norm_ratio(params), expected, rtol=1e-6)
    x = jnp.ones((1, 300), jnp.int8)
    params = jax.jit(cluster_net(width=4000).init)(jax.random.key(0), x)
    np.testing.assert_allclose(xor.norm_ratio(params), 1, atol=0.05)


def test_a_neuron_is_compared_with_its_nearest_direction():
    signal = np.random.default_rng(0).standard_normal((2, 40))
    cosines = signal.T @ CLUSTERS.T / np.linalg.norm(signal, axis=0)[:, None] / 2**0.5
    own = xor.direction_similarity(signal)
    np.testing.assert_allclose(own, cosines.max(axis=1), rtol=1e-5)
    assert jnp.isnan(xor.direction_similarity(np.zeros((2, 1)))).all()


# the one step of Theorem 3.2

P, WIDTH, V_INIT, NOISE = 402, 4096, 0.05, 0.05


def weak(directions=3, delta=0.05):
    """Features that are clusters' directions but for a little noise (A2)."""
    noise = delta * jax.random.normal(jax.random.key(1), (P - 2, directions))
    signal = jnp.asarray(CLUSTERS[:directions].T, float)
    return {"signal": signal, "noise": noise}


def one_step(learning_rate, u, seed=0):
    def run(learning_rate):
        return xor.transferred_accuracy(
            jax.random.key(seed),
            u,
            xor_clusters(rng.run_keys(0), dimension=P, train_size=200, test_size=200),
            noise=NOISE,
            width=WIDTH,
            v_init=V_INIT,
            learning_rate=learning_rate,
        )

    return jax.vmap(run)(learning_rate)


def test_after_one_step_the_target_knows_train_and_test():
    """Learning rates from sqrt(m) v_init / C to sqrt(m) v_init with C = 4, whichever
    three of the directions U has."""
    rates = WIDTH**0.5 * V_INIT / jnp.array([4.0, 2.0, 1.0])
    for left_out in (0, 3):
        kept = jnp.array([i for i in range(4) if i != left_out])
        u = jax.tree.map(lambda leaf, kept=kept: leaf[:, kept], weak(4))
        result = jax.jit(one_step)(rates, u)
        for name in ("train_accuracy", "test_accuracy"):
            np.testing.assert_array_equal(result[name][:, 1], np.ones(3))
        assert result["test_accuracy"][:, 0].max() < 0.9


@pytest.mark.parametrize(("v_init", "unharmed"), [(0.02, True), (0.1, False)])
def test_outputs_and_embedding_may_be_trained_where_the_weights_are_small(
    v_init, unharmed
):
    """Footnote 2 of Sec. 3.3 says that the result is the same. It is where m v_init^2
    is at most about 1; else the outputs, moved at the rate of the hidden weights, leave
    their own signs behind, at weights that (A3) allows."""
    data = xor_clusters(rng.run_keys(0), dimension=P, train_size=200, test_size=200)
    a, v = xor.transferred_net(jax.random.key(0), weak(), WIDTH, v_init)

    def predict(params, split):
        z = xor.project(params["u"], split.x, NOISE)
        return xor.outputs(params["a"], params["v"], z)

    def loss(params):
        return jnp.mean(jnp.exp(-data.train.y * predict(params, data.train)))

    start = dict(a=a, v=v, u=weak())
    slope = jax.grad(loss)(start)
    for rate in WIDTH**0.5 * v_init / np.array([4.0, 2.0, 1.0]):
        end = jax.tree.map(lambda w, g, rate=rate: w - rate * g, start, slope)
        right = [data.test.y * predict({**end, "a": a}, data.test) > 0]
        right += [
            split.y * predict(end, split) > 0 for split in (data.train, data.test)
        ]
        assert jnp.all(right[0])  # hidden weights and embedding
        shares = np.array([jnp.mean(each) for each in right[1:]])
        assert (shares == 1).all() if unharmed else (shares < 0.9).all()


def test_two_opposite_directions_are_not_enough():
    """They see only one label's clusters; a target on them is right on no more."""
    rates = WIDTH**0.5 * V_INIT / jnp.array([4.0, 2.0, 1.0])
    result = jax.jit(one_step)(rates, weak(2, delta=0.0))
    assert result["test_accuracy"].max() < 0.7


def test_the_step_is_gradient_descent_by_hand():
    draws = np.random.default_rng(0)
    z, y = draws.standard_normal((6, 3)), draws.choice([-1.0, 1.0], 6)
    a, v = draws.standard_normal(4), draws.standard_normal((4, 3))
    hidden = z @ v.T
    slope = -y * np.exp(-y * (np.maximum(hidden, 0) @ a))
    gradient = np.einsum("n,nm,nr->mr", slope, (hidden > 0) * a[None], z) / 6
    own = xor.one_step(*map(jnp.asarray, (a, v, z, y)), 0.3)
    np.testing.assert_allclose(own, v - 0.3 * gradient, rtol=1e-4, atol=1e-5)
    f = xor.outputs(*map(jnp.asarray, (a, v, z)))
    assert exponential().value(f, jnp.asarray(y)).shape == (6,)


def test_the_transferred_net_has_signs_of_even_odds():
    a, v = xor.transferred_net(jax.random.key(0), weak(), 1600, 0.4)
    assert a.shape == (1600,) and v.shape == (1600, 3)
    np.testing.assert_allclose(np.abs(a), 1 / 40, rtol=1e-6)
    np.testing.assert_allclose(np.abs(v), 0.4, rtol=1e-6)
    signs = np.sign(np.column_stack([a, v]))
    assert abs(signs.mean(axis=0)).max() < 4 / 40
    assert abs(np.corrcoef(signs.T) - np.eye(4)).max() < 4 / 40


def test_every_step_of_the_target_is_one_step_from_the_last():
    data = xor_clusters(rng.run_keys(0), dimension=P, train_size=50, test_size=50)
    u, key = weak(), jax.random.key(2)
    z = [xor.project(u, split.x, NOISE) for split in data[:2]]
    a, v = xor.transferred_net(key, u, 64, 0.4)
    settings = dict(noise=NOISE, width=64, v_init=0.4, learning_rate=2.0)
    found = xor.transferred_accuracy(key, u, data, **settings, steps=3)
    for step in range(4):
        for name, inputs, split in zip(("train", "test"), z, data[:2], strict=True):
            right = jnp.mean(xor.outputs(a, v, inputs) * split.y > 0)
            np.testing.assert_allclose(found[f"{name}_accuracy"][step], right)
        v = xor.one_step(a, v, z[0], data.train.y, 2.0)


def test_neurons_of_unit_signal_keep_their_direction_and_their_share_of_noise():
    u = {name: 3 * leaf for name, leaf in weak(4).items()}
    scaled = xor.unit_signal(u)
    np.testing.assert_allclose(scaled["signal"], CLUSTERS.T, rtol=1e-6)
    np.testing.assert_allclose(xor.norm_ratio(scaled), xor.norm_ratio(u), rtol=1e-5)


def test_two_assumptions_of_the_theorem_hold_at_the_sizes_of_the_figures():
    """(A1), that the noise is at most (n / (p log^3 n))^(1/4), and (A5), that the width
    is at least 2 log^3 n, which have no constant (Xu et al. 2025, Sec. 3.3)."""
    pages = Path(__file__).parents[2] / "experiments" / "groktransfer"
    module, _ = launch.load_experiment(str(pages / "g4_weak.py"))
    task, model = (module.get_config("cpu")[name] for name in ("task", "model"))
    scale = np.log(task.train_size) ** 3
    largest = (task.train_size / (task.dimension * scale)) ** 0.25
    assert model.noise <= largest < 0.1  # 0.1 is another noise of Fig. 5
    step = inspect.signature(observables.xor_one_step)
    assert step.parameters["target_width"].default >= 2 * scale
