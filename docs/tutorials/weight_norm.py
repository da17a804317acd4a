# %% [markdown]
# # Weight norm and landscape
#
# You will see the L and the U of Omnigrok: the train and the test loss that a network
# reaches when its weights are held at a norm, and then a run that starts at too large a
# norm and is brought into the zone between by weight decay.

# %%
import matplotlib.pyplot as plt

import grok_jax
from grok_jax import measures, plot
from grok_jax.engine.config import logspace

# %% [markdown]
# `norm="fixed"` holds all weights on the sphere of their initial norm, whatever the
# optimiser; `init_scale` sets that norm as a multiple of the usual one.

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
# To the left both losses are high: a network so small cannot say much. To the right
# train loss can be made small (with more steps still smaller) and test loss cannot. The
# norm where test loss is least is the Goldilocks zone:

# %%
losses = end.test_loss.median("seed").values
found = measures.goldilocks(end.init_scale.values, losses)
print(f"test loss is least, {float(found.loss):.2g}, at norm {float(found.norm):.2g}")

# %% [markdown]
# Now the norm is free, and starts on the right. Weight decay brings it down, the sooner
# the stronger it is.

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
# - More data, `train_size=300`: what becomes of the gap between L and U?
# - `weight_decay=0` in the sweep: nothing takes the norm away.
# - `init_scale=1.0` in place of 4: does it still grok?
# - The paper's figures with their claims: [Omnigrok](../theories/omnigrok.md).
