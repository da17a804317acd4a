# %% [markdown]
# # Kernel alignment over training
#
# You will see the neural tangent kernel (NTK) of a small convolutional network align
# with its task during a plain training loop of your own, and stay constant when the
# same network is made lazy.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import linen

from grok_jax import alignment, kernel_history, ntk, snapshots

# %% [markdown]
# Images of 8 x 8 pixels; the target is the sum of the upper half minus that of the
# lower. `ntk.of` turns a flax module into a function and its parameters, and
# `ntk.explain` shows how each parameter enters the kernel and what that costs.

# %%
x = jax.random.normal(jax.random.key(0), (50, 8, 8, 1))
y = (x[:, :4].sum((1, 2)) - x[:, 4:].sum((1, 2))) / 8


def flat(h):
    return h.reshape(len(h), -1)


model = linen.Sequential([linen.Conv(8, (3, 3)), linen.tanh, flat, linen.Dense(1)])
f, params = ntk.of(model, model.init(jax.random.key(1), x))
print(ntk.explain(f, params, x))

# %% [markdown]
# An ordinary optax loop that keeps the weights of every step. A large output scale,
# with the learning rate divided by its square, makes the network lazy: its weights stay
# near their initial values. The network is centred, so that its initial output is zero.


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
# The kernel at each of the saved weights (paths of checkpoints work too) and its
# alignment with the targets. `kernel_history` adds the distance from the first kernel.

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
for name, (saved, losses) in runs.items():
    kernels = snapshots.kernels(f, saved, x)
    steps = 25 * np.arange(len(kernels))
    history = kernel_history.kernel_history(kernels, y[:, 0])
    axes[0].semilogy(losses, label=name)
    axes[1].plot(steps, [float(alignment.cka(k, y)) for k in kernels], label=name)
    axes[2].plot(steps, history.distance, label=name)
for axis, title in zip(axes, ("train loss", "alignment (CKA)", "distance from start")):
    axis.set_title(title)
    axis.set_xlabel("step")
axes[0].legend()
plt.show()

# %% [markdown]
# Both fit; only one learns features. This is how Kumar et al. explain grokking: a
# network that is lazy at first, with a kernel poorly aligned with the task, fits first
# and generalises once it learns features.
#
# ## Try
#
# - `ntk.only(lambda path: "layers_3" in path, f, params)`: the kernel of the last layer
#   alone. Does it change during training?
# - Use an eigenvector of the initial kernel as `y`.
# - In a sweep, `observe=dict(kernel_alignment={})` records the same numbers; see
#   [kernels of your network](../how_to/kernels.md).
