# %% [markdown]
# # Weight norm and landscape
#
# You will see the L and the U of Omnigrok: the final train and test loss of a network
# whose weight norm is fixed, against that norm. Then a run that starts at too large a
# norm, which weight decay brings down to where it generalises.

# %%
import matplotlib.pyplot as plt

import grok_jax
from grok_jax import measures, plot
from grok_jax.engine.config import logspace

# %% [markdown]
# `norm="fixed"` keeps the weights on the sphere of their initial norm, with any
# optimiser; `init_scale` sets that norm relative to the default initialisation.

# %%
student = dict(
    task=dict(name="teacher_student", train_size=60, teacher_width=20),
    model=dict(name="mlp", width=20, activation="tanh"),
    loss=dict(name="squared_error", tolerance=0.01, outputs="mean"),
)
held = dict(
    student,
    optimizer=dict(name="adamw", learning_rate=3e-3, norm="fixed"),
    train=dict(steps=600, records=6),
    sweep=dict(init_scale=logspace(0.1, 6, 7), seed=(0, 1)),
)
landscape = grok_jax.run(held, say=lambda line: None)
end = landscape.isel(step=-1)

figure, axis = plt.subplots(figsize=(4.5, 3.2), layout="constrained")
plot.landscape(axis, end)
plt.show()

# %% [markdown]
# At small norm both losses are high (underfitting). At large norm the train loss is
# small, and smaller with more steps, but the test loss is not. The norm of the lowest
# test loss is the centre of the Goldilocks zone:

# %%
losses = end.test_loss.median("seed").values
found = measures.goldilocks(end.init_scale.values, losses)
print(f"lowest test loss {float(found.loss):.2g}, at norm {float(found.norm):.2g}")

# %% [markdown]
# Now the norm is free and starts too large. Weight decay brings it down, faster if it
# is stronger.

# %%
decayed = dict(
    student,
    model=dict(student["model"], init_scale=4.0),
    optimizer=dict(name="adamw", learning_rate=3e-3),
    observe=dict(norms={}),
    train=dict(steps=2500, records=40),
    sweep=dict(weight_decay=(0.03, 0.3), seed=(0, 1)),
)
runs = grok_jax.run(decayed, say=lambda line: None)
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.2), layout="constrained")
plot.family(axes[0], runs, "weight_decay", "γ", "loss", log=True)
plot.family(axes[1], runs, "weight_decay", "γ", "weight_norm")
plt.show()

# %% [markdown]
# ## Try
#
# - Use more data, `train_size=300`: how does the gap between L and U change?
# - Add `weight_decay=0` to the sweep: the norm stays large.
# - Use `init_scale=1.0` instead of 4: does it still grok?
# - See the paper's figures with their claims: [Omnigrok](../theories/omnigrok.md).
