"""The network of the XOR clusters: its formula in blocks, its memory, its draws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import ntk, rng
from grok_jax.models.cluster_net import cluster_net, project
from grok_jax.rng import sign_rows
from grok_jax.tasks.xor import xor_clusters
from grok_jax.theory import xor

N, P, M = 9, 23, 5
X = sign_rows(jax.random.key(0), N, P)


def any_params(p=P, m=M):
    draws = np.random.default_rng(1)
    shapes = {"signal": (2, m), "noise": (p - 2, m), "readout": (m,)}
    return {name: jnp.asarray(draws.standard_normal(s)) for name, s in shapes.items()}


def plain(params, x, noise):
    scale = jnp.concatenate([jnp.ones(2), jnp.full(x.shape[1] - 2, noise)])
    w = jnp.concatenate([params["signal"], params["noise"]])
    return jnp.maximum((x * scale[None]) @ w, 0) @ params["readout"]


@pytest.mark.parametrize("m", [3, M])
@pytest.mark.parametrize("block", [1, 4, 7, 21, 50])
def test_projections_and_gradients_are_those_of_the_plain_product(block, m):
    """With blocks that divide the 21 columns of noise, and with others; neurons one by
    one, and together."""
    with jax.enable_x64(True):
        params = any_params(m=m)

        def both(params, noise):
            def loss(apply, params, noise):
                f = apply(params, noise)
                return jnp.sum(jnp.sin(f)), f

            def own(params, noise):
                hidden = project(params, X, noise, block)
                return jnp.maximum(hidden, 0) @ params["readout"]

            def grad(apply):
                inner = partial(loss, apply)
                return jax.grad(inner, argnums=(0, 1), has_aux=True)(params, noise)

            return grad(own), grad(lambda params, noise: plain(params, X, noise))

        (own, f), (expected, expected_f) = jax.jit(both)(params, 0.3)
    assert f.shape == (N,)
    np.testing.assert_allclose(f, expected_f, rtol=1e-11)
    for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(expected), strict=True):
        assert np.asarray(b).any()
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_the_noise_may_be_traced():
    f = jax.jit(lambda noise: cluster_net(width=M, noise=noise).apply(any_params(), X))
    np.testing.assert_allclose(f(0.3), plain(any_params(), X, 0.3), rtol=1e-5)


def test_without_noise_it_sees_the_signal_alone():
    params = any_params()
    f = cluster_net(width=M, noise=0.0).apply(params, X)
    same = X.at[:, 2:].set(1)
    np.testing.assert_array_equal(
        f, cluster_net(width=M, noise=0.0).apply(params, same)
    )
    expected = jnp.maximum(X[:, :2] @ params["signal"], 0) @ params["readout"]
    np.testing.assert_allclose(f, expected, rtol=1e-5)


def test_neither_outputs_nor_gradients_hold_the_signs_as_floats():
    n, p = 64, 100_000
    x, params = jnp.ones((n, p), jnp.int8), jax.eval_shape(lambda: any_params(p, 4))
    model, weights = cluster_net(width=4), 4 * 4 * p

    def loss(params, x):
        return jnp.sum(jnp.exp(model.apply(params, x)))

    for program in (model.apply, jax.grad(loss)):
        memory = jax.jit(program).lower(params, x).compile().memory_analysis()
        assert memory.temp_size_in_bytes < x.size / 2 + 2 * weights
    as_floats = jax.grad(lambda params, x: jnp.sum(jnp.exp(plain(params, x, 0.05))))
    memory = jax.jit(as_floats).lower(params, x).compile().memory_analysis()
    assert memory.temp_size_in_bytes > 4 * x.size  # the measure sees such a copy


def test_it_maps_over_parameters_and_differentiates_forward():
    model, params = cluster_net(width=M), any_params()
    other = jax.tree.map(lambda leaf: -2 * leaf, params)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, other)
    both = jax.jit(jax.vmap(model.apply, (0, None)))(stacked, X)
    for f, each in zip(both, (params, other), strict=True):
        np.testing.assert_allclose(f, plain(each, X, 0.05), rtol=1e-4, atol=1e-5)
    twin = ntk.linearize(model.apply, params)
    np.testing.assert_allclose(
        jax.jit(twin)(params, X), plain(params, X, 0.05), rtol=1e-4, atol=1e-5
    )


def moments(values, scale):
    u = np.asarray(values, float).ravel() / scale
    return u.mean() * np.sqrt(u.size), np.mean(u**2)


def test_pytorch_draws_within_one_over_root_fan_in():
    x = jnp.ones((1, 400), jnp.int8)
    params = jax.jit(cluster_net(width=1600).init)(jax.random.key(0), x)
    assert {name: leaf.shape for name, leaf in params.items()} == {
        "signal": (2, 1600),
        "noise": (398, 1600),
        "readout": (1600,),
    }
    for name, bound in (("signal", 1 / 20), ("noise", 1 / 20), ("readout", 1 / 40)):
        mean, square = moments(params[name], bound)
        assert abs(mean) < 4 and abs(square - 1 / 3) < 0.05
        assert 0.99 < abs(np.asarray(params[name])).max() / bound <= 1


def test_gaussian_draws_each_layer_at_its_own_scale():
    x = jnp.ones((1, 400), jnp.int8)
    model = cluster_net(width=1600, init="gaussian", hidden_scale=3.0)
    params = jax.jit(model.init)(jax.random.key(0), x)
    for name, scale in (("signal", 3), ("noise", 3), ("readout", 0.01)):
        mean, square = moments(params[name], scale)
        assert abs(mean) < 4 and abs(square - 1) < 0.15


@pytest.mark.parametrize("x", [jnp.ones((4, 2), jnp.int8), jnp.ones(6, jnp.int8)])
def test_inputs_of_another_kind_are_named(x):
    says = (
        "A cluster net takes int8 signs of shape (n, p) with p >= 3, or with its "
        f"dimension compact examples, not {x.dtype} inputs of shape {x.shape}."
    )
    for call in (
        lambda: cluster_net().init(jax.random.key(0), x),
        lambda: project(any_params(), x, 0.1),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert str(caught.value) == says


# compact examples

SIZES = dict(dimension=60, train_size=8, test_size=5, fresh_size=4)


def both_forms():
    """The same examples as signs and compact, and params that are one network."""
    data = [xor_clusters(rng.run_keys(3), **SIZES, compact=c) for c in (False, True)]
    rows = [
        np.concatenate([d.train.x, d.test.x, d.extras["fresh_x"]]).astype(float)
        for d in data
    ]
    params = any_params(p=60, m=3)
    noise, basis = np.asarray(params["noise"]), rows[1][:, 2:]
    inside = np.linalg.solve(basis, rows[0][:, 2:] @ noise)  # its part that is seen
    rest = np.sqrt((noise**2).sum(0) - (inside**2).sum(0))
    other = {**params, "noise": jnp.asarray(inside), "rest": jnp.asarray(rest)}
    return data, (params, other)


def test_a_network_learns_the_same_from_compact_examples():
    """Outputs and the ratio of norms after five steps with decay, on all three sets."""
    with jax.enable_x64(True):
        data, weights = both_forms()
        seen = []
        for d, params in zip(data, weights, strict=True):
            net = cluster_net(width=3, noise=0.2, dimension=60)

            def loss(params, x=d.train.x, y=d.train.y, net=net):
                return jnp.mean(jnp.exp(-y * net.apply(params, x)))

            @jax.jit
            def step(params, loss=loss):
                slope = jax.grad(loss)(params)
                return jax.tree.map(lambda w, g: 0.99 * w - 0.1 * g, params, slope)

            for _ in range(5):
                params = step(params)
            sets = (d.train.x, d.test.x, d.extras["fresh_x"])
            outputs = jnp.concatenate([net.apply(params, x) for x in sets])
            seen.append((np.asarray(outputs), float(xor.norm_ratio(params, 60))))
    assert abs(seen[0][0]).min() > 1e-6
    for own, expected in zip(seen[1], seen[0], strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-5)


@pytest.mark.parametrize(("init", "scale"), [("gaussian", 0.1), ("pytorch", 3e4**-0.5)])
def test_compact_draws_have_the_variance_of_all_weights(init, scale):
    x = jnp.ones((1, 402))
    model = cluster_net(width=200, init=init, dimension=10_000)
    params = jax.jit(model.init)(jax.random.key(0), x)
    assert params["noise"].shape == (400, 200) and params["rest"].shape == (200,)
    for name, count in (("signal", 2), ("noise", 400), ("rest", 10_000 - 402)):
        square = np.mean(np.sum(np.atleast_2d(params[name]) ** 2, axis=0))
        np.testing.assert_allclose(square / count, scale**2, rtol=0.2)
    np.testing.assert_allclose(xor.norm_ratio(params, 10_000), 1, atol=0.1)


def test_compact_examples_need_their_dimension():
    x = jnp.ones((4, 6))
    said = rf"^A cluster net takes int8 signs .* {x.dtype} inputs"
    with pytest.raises(ValueError, match=said):
        cluster_net().init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"model\.dimension is 5; .* at least 6\."):
        cluster_net(dimension=5).init(jax.random.key(0), x)
