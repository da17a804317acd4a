"""Handwritten digits (Liu et al. 2023, Omnigrok, Figs. 3, 8, 11, 12)."""

import jax
import jax.numpy as jnp
from jax import Array

from grok_jax.rng import Keys, named_key
from grok_jax.settings import Count, Natural, SettingError, Share
from grok_jax.types import Dataset, Split


def mnist(
    keys: Keys,
    *,
    files: dict[str, Array],
    folder: str = "",
    train_size: Count = 1000,
    test_size: Natural = 0,
    messiness: Share = 1.0,
) -> Dataset:
    """x = m image + (1 - m) template with image in [0, 1] and the template of class c
    constant at c / 9 - 1 / 2 (Fig. 8); y the one-hot class. m = 1 is plain MNIST.

    Shapes: x [n, 784], y [n, 10]; `files` is what `files.mnist` has read. Train
    examples are drawn from the training images (the paper's code takes the first ones),
    test examples from the official test set, or from the remaining images where there
    is none. A larger train set begins with the smaller one of the same seed, and so
    does a test set.

    Args:
      folder: where the files are; "" for the usual places (see `tasks.files`).
      test_size: 0 for all.
      messiness: m, of the train and the test images alike.
    """
    del folder  # read by files.mnist
    files = jax.tree.map(jnp.asarray, files)
    images, official = len(files["images"]), len(files["test_images"])
    available = official or max(images - train_size, 0)
    if train_size > images or max(test_size, 1) > available:
        raise SettingError(
            f"There are {images} digits, {available} of them for testing, which is not "
            f"enough for task.train_size {train_size} and task.test_size {test_size}."
        )

    def split(prefix: str, rows: Array) -> Split:
        image = files[f"{prefix}images"][rows].astype(float) / 255
        label = files[f"{prefix}labels"][rows]
        template = label[:, None] / 9 - 0.5
        x = messiness * image + (1 - messiness) * template
        return Split(x, jax.nn.one_hot(label, 10), jnp.ones(len(rows)))

    order = jax.random.permutation(keys.data, images)
    rows = order[::-1]
    if official:
        rows = jax.random.permutation(named_key(keys.data, "test"), official)
    return Dataset(
        split("", order[:train_size]),
        split("test_" if official else "", rows[: test_size or available]),
        {},
    )


def ten_classes() -> dict[str, int]:
    """The sizes of `mnist`'s data (`types.Task`)."""
    return {"inputs": 784, "outputs": 10}
