"""A stranger's page: its network, task, loss, optimiser and observable are its own."""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from matplotlib.figure import Figure

from grok_jax.claims import OURS, Claim
from grok_jax.engine.config import make_config
from grok_jax.losses import Loss
from grok_jax.types import Dataset, Split


class Net(nn.Module):
    width: int = 8

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.tanh(nn.Dense(self.width)(x)))[:, 0]


def sines(keys, *, train_size: int = 20, noise: float = 0.1):
    def split(key, size):
        x = jax.random.uniform(key, (size, 1), minval=-3, maxval=3)
        error = jax.random.normal(jax.random.fold_in(key, 1), (size,))
        return Split(x, jnp.sin(x[:, 0]) + noise * error, jnp.ones(size))

    return Dataset(split(keys.data, train_size), split(keys.split, 50), {})


def huber(*, delta: float = 1.0):
    def right(f, y):
        return (abs(f - y) < 0.1).astype(f.dtype)

    return Loss(lambda f, y: optax.huber_loss(f, y, delta=delta), right)


def clipped_adam(*, peak: float = 1e-2, clip: float = 1.0):
    return optax.chain(
        optax.clip_by_global_norm(clip),
        optax.scale_by_adam(),
        optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, 100)),
        optax.scale(-peak),
    )


def largest_eigenvalue(view, *, points: int = 10):
    x = view.data.test.x[:points]
    return {
        "largest_eigenvalue": jnp.linalg.eigvalsh(view.kernel(view.params, x, x))[-1]
    }


def get_config(preset=None):
    return make_config(
        dict(
            name="Sines",
            description="all parts from outside",
            task=dict(name=sines),
            model=dict(name=Net, output_scale=2.0),
            loss=dict(name=huber),
            optimizer=dict(name=clipped_adam),
            observe=dict(
                sharpness=dict(name=largest_eigenvalue), norms={}, kernel_alignment={}
            ),
            stop=dict(metric="largest_eigenvalue", threshold=1.0),
            train=dict(steps=100, records=8),
            sweep=dict(width=(4, 8), noise=(0.0, 0.3), seed=(0, 1)),
        )
    )


def claims(results):
    last = results.train_loss.isel(step=-1)
    said = "every run trains", "train loss at the end below 0.3"
    return [Claim("S1", OURS, *said, last.values, bool((last < 0.3).all()))]


def figure(results):
    figure = Figure()
    runs = results.train_loss.stack(run=("width", "noise", "seed"))
    figure.subplots().plot(results.step, runs)
    return figure
