# %% [markdown]
# # Embedding transfer
#
# You will see grokking on modular addition disappear: a network of a few neurons is
# trained for a short time, its embedding is given to the target network, and the target
# generalises almost as soon as it fits.

# %%
import matplotlib.pyplot as plt

import grok_jax
from grok_jax import plot

# %% [markdown]
# Arms are variants that are compared: each overrides some of the common settings. The
# second arm trains a weak network first and replaces the target's `embed` by A B, where
# A is the weak network's embedding and B is random, both trained (Xu et al. 2025, Sec.
# 2.2). Of two weak networks the one with the lower train loss is used. Each arm has its
# own learning rate and weight decay.

# %%
P = 31
settings = dict(
    task=dict(name="modular_tokens", modulus=P, equals=False, train_fraction=0.5),
    model=dict(name="fnn", embedding=64, width=128),
    loss=dict(name="classification"),
    optimizer=dict(name="adamw"),
    arms=dict(
        scratch=dict(
            model=dict(init_scale=0.3),
            optimizer=dict(learning_rate=5e-3, weight_decay=3.0),
        ),
        GrokTransfer=dict(
            model=dict(init_scale=0.3),
            optimizer=dict(learning_rate=3e-3, weight_decay=1.0),
            transfer=dict(
                model=dict(
                    name="fnn", embedding=4, width=16, layers=2, init_scale=0.15
                ),
                optimizer=dict(name="adamw", learning_rate=0.03, weight_decay=1.0),
                steps=800,
                candidates=2,
                leaf="embed",
                into="embed",
            ),
        ),
    ),
    grok=dict(kind="accuracy", train=0.95, test=0.9),
    train=dict(steps=600, records=50),
    sweep=dict(seed=(0, 1)),
)
results = grok_jax.run(settings, say=lambda line: None)

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for axis, arm in zip(axes, results.arm.values):
    plot.accuracies(axis, results.sel(arm=arm), each=True)
    axis.set_title(arm)
plt.show()

# %% [markdown]
# The steps at which each run has fitted and has generalised (NaN: not within these
# steps), and the test accuracy of the weak networks:

# %%
print(results[["t_train", "t_test"]].to_dataframe().dropna(axis=1, how="all"))
weak = results.sel(arm="GrokTransfer").weak_test_accuracy.max("step")
print("weak networks:", weak.values.round(2))

# %% [markdown]
# ## Try
#
# - Set `source="random"` in `transfer`: the same with an untrained embedding.
# - Train the weak network for fewer `steps`. How good must it be?
# - Transfer between parameter trees of your own:
#   [GrokTransfer into your model](../how_to/transfer.md).
# - See the paper's claims and what held: [GrokTransfer](../theories/groktransfer.md).
