# %% [markdown]
# # Embedding transfer
#
# You will see the delay of modular addition go away: a network of a few neurons is
# trained for a while, its embedding is handed to the network that matters, and that one
# generalises almost as it fits.

# %%
import matplotlib.pyplot as plt

import grok_jax
from grok_jax import plot

# %% [markdown]
# Arms are variants side by side: each is a layer of settings over those of all. The
# second arm trains a weak network first and grafts its `embed` into the target's, as
# A B with A the weak embedding and B random, both trained (Xu et al. 2025, Sec. 2.2).
# Of two weak networks the one of least train loss is used. Each arm has a learning
# rate and a weight decay that suit it.

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
# When each run had fitted and when it had generalised (NaN: not in these steps), and
# how good the weak networks were:

# %%
print(results[["t_train", "t_test"]].to_dataframe().dropna(axis=1, how="all"))
weak = results.sel(arm="GrokTransfer").weak_test_accuracy.max("step")
print("weak networks:", weak.values.round(2))

# %% [markdown]
# ## Try
#
# - `source="random"` in `transfer`: the same surgery with an untrained embedding.
# - Fewer `steps` for the weak network. How good must it be?
# - Grafts between parameter trees of your own:
#   [GrokTransfer into your model](../how_to/transfer.md).
# - What the paper shows and what held: [GrokTransfer](../theories/groktransfer.md).
