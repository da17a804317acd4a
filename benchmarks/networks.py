"""Networks that people ask for kernels of, as plain functions of images [n, 32, 32, 3].

Nothing of the package is imported: `their_kernels.py` runs them on another JAX.
"""

import jax
import jax.numpy as jnp


class Weights:
    """Draws weights [..., inputs, outputs] of variance 1 / inputs, one by one."""

    def __init__(self, seed):
        self.key = jax.random.PRNGKey(seed)

    def __call__(self, *shape):
        self.key, key = jax.random.split(self.key)
        inputs = 1
        for size in shape[:-1]:
            inputs *= size
        return jax.random.normal(key, shape) / inputs**0.5


def convolve(x, w, stride=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, w, (stride, stride), "SAME", dimension_numbers=numbers
    )


def pool(x):
    window = (1, 2, 2, 1)
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "VALID") / 4


def lenet():
    """Two 5 x 5 convolutions and three dense layers, with biases."""
    draw = Weights(0)
    params = {
        "c1": draw(5, 5, 3, 6),
        "c2": draw(5, 5, 6, 16),
        "d1": draw(1024, 120),
        "d2": draw(120, 84),
        "d3": draw(84, 10),
    }
    for name, size in (("b1", 6), ("b2", 16), ("b3", 120), ("b4", 84), ("b5", 10)):
        params[name] = jnp.zeros(size)

    def apply(p, x):
        x = pool(jax.nn.relu(convolve(x, p["c1"]) + p["b1"]))
        x = pool(jax.nn.relu(convolve(x, p["c2"]) + p["b2"]))
        x = x.reshape(x.shape[0], -1)
        x = jax.nn.relu(x @ p["d1"] + p["b3"])
        x = jax.nn.relu(x @ p["d2"] + p["b4"])
        return x @ p["d3"] + p["b5"]

    return apply, params


def all_convolutional():
    """Three 3 x 3 convolutions of 32, 64 and 64 channels, the mean, a dense layer."""
    draw = Weights(1)
    params = [draw(3, 3, 3, 32), draw(3, 3, 32, 64), draw(3, 3, 64, 64), draw(64, 10)]

    def apply(p, x):
        x = jax.nn.relu(convolve(x, p[0]))
        x = pool(jax.nn.relu(convolve(x, p[1])))
        x = pool(jax.nn.relu(convolve(x, p[2])))
        return x.mean((1, 2)) @ p[3]

    return apply, params


def resnet():
    """A ResNet-18 for small images, a quarter as wide (16 to 128 channels), without
    normalisation: eight blocks of two 3 x 3 convolutions, 1 x 1 where strides are 2."""
    draw = Weights(2)
    blocks, before = [], 16
    for stage, width in enumerate((16, 32, 64, 128)):
        for place in range(2):
            block = {"a": draw(3, 3, before, width), "b": draw(3, 3, width, width)}
            if stage and not place:
                block["c"] = draw(1, 1, before, width)
            blocks.append(block)
            before = width
    params = {"in": draw(3, 3, 3, 16), "blocks": blocks, "out": draw(128, 10)}

    def apply(p, x):
        x = jax.nn.relu(convolve(x, p["in"]))
        for block in p["blocks"]:
            stride = 2 if "c" in block else 1
            y = convolve(jax.nn.relu(convolve(x, block["a"], stride)), block["b"])
            x = convolve(x, block["c"], stride) if "c" in block else x
            x = jax.nn.relu(x + y)
        return x.mean((1, 2)) @ p["out"]

    return apply, params


def vit():
    """Two blocks of attention (4 heads) and a dense layer on 64 patches of width 64."""
    draw, d, heads = Weights(3), 64, 4
    params = {
        "embed": draw(48, d),
        "position": draw(64, d),
        "blocks": [
            {
                **{name: draw(d, d) for name in "qkvo"},
                "a": draw(d, 128),
                "b": draw(128, d),
                "scale": jnp.ones(d),
                "shift": jnp.zeros(d),
            }
            for _ in range(2)
        ],
        "out": draw(d, 10),
    }

    def apply(p, x):
        n = x.shape[0]
        x = x.reshape(n, 8, 4, 8, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(n, 64, 48)
        x = x @ p["embed"] + p["position"]
        for b in p["blocks"]:
            y = x - x.mean(-1, keepdims=True)
            y = y / jnp.sqrt((y**2).mean(-1, keepdims=True) + 1e-5)
            y = y * b["scale"] + b["shift"]
            q, k, v = ((y @ b[m]).reshape(n, 64, heads, d // heads) for m in "qkv")
            scores = jnp.einsum("nthc,nshc->nhts", q, k) / (d // heads) ** 0.5
            a = jax.nn.softmax(scores, axis=-1)
            x = x + jnp.einsum("nhts,nshc->nthc", a, v).reshape(n, 64, d) @ b["o"]
            x = x + jax.nn.gelu(x @ b["a"]) @ b["b"]
        return x.mean(1) @ p["out"]

    return apply, params


NETWORKS = {f.__name__: f for f in (lenet, all_convolutional, resnet, vit)}


def images(n):
    return jax.random.normal(jax.random.PRNGKey(9), (n, 32, 32, 3))
