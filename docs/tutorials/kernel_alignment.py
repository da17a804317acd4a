# %% [markdown]
# # Kernel alignment over training
#
# You will see the neural tangent kernel of a small convolutional network turn towards
# its task while a plain training loop of your own runs, and stay where it is when the
# same network is made lazy.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import linen

from grok_jax import alignment, kernel_history, ntk, snapshots

# %% [markdown]
# Pictures of 8 x 8 pixels; the target is the upper half against the lower.
# `ntk.of` makes a function and its parameters of a flax module, and `ntk.explain` says
# what each leaf adds to the kernel and which way it is computed.

# %%
x = jax.random.normal(jax.random.key(0), (50, 8, 8, 1))
y = (x[:, :4].sum((1, 2)) - x[:, 4:].sum((1, 2))) / 8


def flat(h):
    return h.reshape(len(h), -1)


model = linen.Sequential([linen.Conv(8, (3, 3)), linen.tanh, flat, linen.Dense(1)])
f, params = ntk.of(model, model.init(jax.random.key(1), x))
print(ntk.explain(f, params, x))

# %% [markdown]
# An ordinary loop with optax, which keeps the weights now and then. A large output
# scale, with the step divided by its square, keeps the network near its start: lazy.
# The network is centred, so that both start from zero.


# %%
def train(scale, steps=300):
    start = f(params, x)
    optimizer = optax.sgd(0.02 / scale**2)

    def loss(p):
        net = scale * (f(p, x) - start)
        return ((net - y) ** 2).mean()

    @jax.jit
    def step(p, state):
        value, gradient = jax.value_and_grad(loss)(p)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(p, updates), state, value

    weights, state, saved, losses = params, optimizer.init(params), [], []
    for _ in range(steps):
        saved.append(weights)
        weights, state, value = step(weights, state)
        losses.append(float(value))
    return saved[::25], losses


runs = {"rich, scale 0.05": train(0.05), "lazy, scale 10": train(10.0)}

# %% [markdown]
# The kernel at each of the saved weights (paths of checkpoints do as well), and its
# alignment with the targets. `kernel_history` adds how far it has moved.

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
for name, (saved, losses) in runs.items():
    kernels = snapshots.kernels(f, saved, x)
    steps = 25 * np.arange(len(kernels))
    history = kernel_history.kernel_history(
        kernels, np.broadcast_to(y, (len(kernels), *y.shape))
    )
    axes[0].semilogy(losses, label=name)
    axes[1].plot(steps, [float(alignment.cka(k, y)) for k in kernels], label=name)
    axes[2].plot(steps, history.distance, label=name)
for axis, title in zip(axes, ("train loss", "alignment (CKA)", "distance from start")):
    axis.set_title(title)
    axis.set_xlabel("step")
axes[0].legend()
plt.show()

# %% [markdown]
# Both fit; only one learns features. Kumar et al. make grokking out of this: a network
# that begins lazy with a kernel that does not suit the task fits first and generalises
# once it turns rich.
#
# ## Try
#
# - `ntk.only(lambda path: "layers_3" in path, f, params)`: the kernel of the last layer
#   alone. Does it move?
# - Labels in place of `y` that the kernel likes: an eigenvector of the first kernel.
# - The same measures inside a sweep are `observe=dict(kernel_alignment={})`; see
#   [kernels of your network](../how_to/kernels.md).
