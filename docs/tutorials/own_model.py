# %% [markdown]
# # A model of your own
#
# You will see a network that you wrote in flax learn data that you made, with and
# without weight decay, and an observable of your own recorded during training.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
from flax import linen as nn

import grok_jax
from grok_jax import plot
from grok_jax.types import Dataset, Split

# %% [markdown]
# The model is a flax module. Its fields are settings. The task is a function that draws
# its data from keys: the label is the product of the first two of `bits` signs, which
# is not a linear function. Its keyword arguments are settings too.


# %%
class Net(nn.Module):
    width: int = 64

    @nn.compact
    def __call__(self, x):
        hidden = nn.relu(nn.Dense(self.width, name="inner")(x))
        return nn.Dense(1, name="outer")(hidden)[:, 0]


def parity(keys, *, bits: int = 20, train_size: int = 150):
    def split(key, size):
        x = jax.random.rademacher(key, (size, bits), jnp.float32)
        return Split(x, x[:, 0] * x[:, 1], jnp.ones(size))

    return Dataset(split(keys.data, train_size), split(keys.split, 500), {})


# %% [markdown]
# An observable maps a view of the run at one step to named numbers: here, the share of
# the squared first-layer weights that is on the two relevant inputs.


# %%
def relevant(view):
    rows = jnp.sum(view.params["inner"]["kernel"] ** 2, axis=1)
    return {"relevant_share": rows[:2].sum() / rows.sum()}


def decayed_adam(*, rate: float = 3e-3, decay: float = 0.5):
    return optax.adamw(rate, weight_decay=decay)


# %% [markdown]
# Your own parts go into the settings in place of the names of shipped parts.

# %%
settings = dict(
    task=dict(name=parity),
    model=dict(name=Net, init_scale=2.0),
    optimizer=dict(name=decayed_adam),
    observe=dict(relevant=dict(name=relevant), norms={}),
    train=dict(steps=1500, records=50),
    sweep=dict(decay=(0.0, 1.0), seed=(0, 1)),
)
results = grok_jax.run(settings, say=lambda line: None)

figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
plot.family(axes[0], results, "decay", "decay", "loss", log=True)
plot.family(axes[1], results, "decay", "decay", "relevant_share")
plot.family(axes[2], results, "decay", "decay", "weight_norm")
plt.show()

# %% [markdown]
# Weight decay shrinks the weights on irrelevant inputs, and the network generalises
# while it does.
#
# ## Try
#
# - Set `task=dict(name=parity, bits=30)`. Mistype `bits` and read what the error says.
# - Sweep `width=(16, 64)` too: it changes shapes, so each value is compiled separately.
#   To draw one, put `results = results.sel(width=16)` before the figure.
# - Set `model=dict(name=Net, output_scale=4.0)`: output scale, centring and the other
#   wrappers work on your module too ([your own parts](../how_to/own_parts.md)).
