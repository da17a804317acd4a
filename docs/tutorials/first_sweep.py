# %% [markdown]
# # First sweep
#
# You will see a network grok, and the delay between fitting and generalising grow with
# one number: the output scale α, which makes training *lazy*. Three output scales times
# three seeds: nine runs, one compiled program.

# %%
import matplotlib.pyplot as plt

import grok_jax
from grok_jax import pages, plot

# %% [markdown]
# A sweep is a dictionary. `task`, `model` and `optimizer` name shipped parts and set
# some of their settings; everything else keeps its default. Each entry of `sweep` is
# an axis of the results. The model is a quadratic committee machine in the limit of
# infinite width, trained by gradient flow, so that a run takes milliseconds.

# %%
settings = dict(
    task=dict(name="polynomial", input_dim=30, train_size=170, test_size=50),
    model=dict(name="committee_flow", width=0, epsilon=0.25),
    optimizer=dict(name="gradient_descent", learning_rate=0.5, rule="lazy"),
    observe=dict(population_risk={}),
    train=dict(steps=5_000, records=60),
    sweep=dict(output_scale=(0.05, 0.25, 1.0), seed=(0, 1, 2)),
)
results = grok_jax.run(settings, say=lambda line: None)
dict(results.sizes)

# %% [markdown]
# `results` is an xarray `Dataset` with those axes and the recorded steps. The train
# loss (blue) falls first; at a large output scale the test loss rises, stays up long
# after, and then falls too.

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
for axis, scale in zip(axes, results.output_scale.values):
    runs = results.sel(output_scale=scale)
    curves = dict(test="population_risk", each=True)
    plot.losses(axis, pages.share(runs, "train_loss", "population_risk"), **curves)
    axis.set_ylabel("loss / start")
    axis.set_title(f"output scale {scale:g}")
plt.show()

# %% [markdown]
# `by_loss` finds the steps at which each run has fitted and has generalised (NaN:
# never), and `delay` is the difference (infinite for a run that never generalises).

# %%
timed = pages.by_loss(results, "population_risk")
pages.delay(timed).median("seed").to_series()

# %% [markdown]
# ## Try
#
# - Set `epsilon=0.5` in `model`: the initial kernel is better aligned with the task.
#   How does the delay change?
# - Make it an axis: `sweep=dict(epsilon=(0.25, 1.0), output_scale=..., seed=...)`. It
#   needs no second compilation ([sweep over anything](../how_to/sweeps.md)). To draw
#   one of the two, begin the next cell with `results = results.sel(epsilon=1.0)`.
# - The whole figure, with its tested claims, is in
#   [lazy to rich](../theories/lazy_to_rich.md).
