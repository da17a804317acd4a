"""Four networks as plain functions, which old and new versions of JAX both run, and how
neural-tangents' kernels of them were made:

    python -m venv nt && nt/bin/pip install jax==0.4.25 jaxlib==0.4.25 \
        neural-tangents==0.6.5 'numpy<2' 'scipy<1.13'
    PYTHONPATH=. nt/bin/python tests/nt_networks.py tests/neural_tangents.npz

The weights are NumPy's, so that they are the same everywhere.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.networks import convolve, pool


def normal(seed, *shape):
    rng = np.random.RandomState(seed)
    return rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))


def mlp():
    params = {"w1": normal(0, 4, 6), "b1": normal(1, 6), "w2": normal(2, 6, 3)}
    x = np.random.RandomState(9).standard_normal((5, 4))
    return lambda p, x: jnp.tanh(x @ p["w1"] + p["b1"]) @ p["w2"], params, x


def lenet():
    params = {
        "c1": normal(0, 3, 3, 2, 4),
        "b1": normal(1, 4),
        "c2": normal(2, 3, 3, 4, 3),
        "w": normal(3, 12, 3),
    }

    def apply(p, x):
        x = pool(jnp.maximum(convolve(x, p["c1"]) + p["b1"], 0))
        x = pool(jnp.tanh(convolve(x, p["c2"])))
        return x.reshape(len(x), -1) @ p["w"]

    return apply, params, np.random.RandomState(9).standard_normal((5, 8, 8, 2))


def residual():
    params = {
        "in": normal(0, 3, 3, 2, 4),
        "a": normal(1, 3, 3, 4, 4),
        "b": normal(2, 3, 3, 4, 4),
        "down": normal(3, 1, 1, 4, 5),
        "out": normal(4, 5, 3),
    }

    def apply(p, x):
        x = convolve(x, p["in"])
        x = x + convolve(jnp.tanh(convolve(jnp.tanh(x), p["a"])), p["b"])
        return jnp.tanh(convolve(x, p["down"], stride=2)).mean((1, 2)) @ p["out"]

    return apply, params, np.random.RandomState(9).standard_normal((5, 6, 6, 2))


def attention():
    params = {name: normal(i, 6, 6) for i, name in enumerate("qkvo")}
    params.update(scale=1 + normal(5, 6), shift=normal(6, 6), out=normal(7, 6, 3))

    def apply(p, x):
        y = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
        y = y * p["scale"] + p["shift"]
        q, k, v = ((y @ p[n]).reshape(*y.shape[:2], 2, 3) for n in "qkv")
        a = jax.nn.softmax(jnp.einsum("nthc,nshc->nhts", q, k) / np.sqrt(3), axis=-1)
        x = x + jnp.einsum("nhts,nshc->nthc", a, v).reshape(x.shape) @ p["o"]
        return jnp.tanh(x).mean(1) @ p["out"]

    return apply, params, np.random.RandomState(9).standard_normal((5, 4, 6))


NETWORKS = {f.__name__: f for f in (mlp, lenet, residual, attention)}

if __name__ == "__main__":
    import neural_tangents as nt

    jax.config.update("jax_enable_x64", True)
    found = {}
    for name, network in NETWORKS.items():
        apply, params, x = network()
        kernel = nt.empirical_ntk_fn(apply, trace_axes=(), vmap_axes=0)
        found[name] = np.asarray(kernel(x, None, params))  # [n, n, C, C]
    np.savez_compressed(sys.argv[1], **found)
