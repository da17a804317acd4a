"""Digits: how they are read and drawn, scaling and template."""

import gzip
import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data_files import assert_same, put, refused

from grok_jax import rng
from grok_jax.settings import SettingError
from grok_jax.tasks.mnist import load_digits, mnist

KEYS = rng.run_keys(0)


def digits(count=30, official=0, pixels=4):
    """Images that say which example they are: pixel 0 is its number, counted on through
    the official test set; the label is that number modulo 10."""
    number = np.arange(count + official, dtype=np.uint8)
    images = np.stack([number] + [255 - number] * (pixels - 1), axis=1)
    return {
        "images": images[:count],
        "labels": number[:count] % 10,
        "test_images": images[count:],
        "test_labels": number[count:] % 10,
    }


@partial(jax.jit, static_argnames=("train_size", "test_size"))
def make(found, keys=KEYS, **settings):
    return mnist(keys, files=found, **settings)


def numbers(split):
    return np.round(np.asarray(split.x[:, 0]) * 255).astype(int).tolist()


def test_pixels_lie_in_the_unit_interval_and_labels_stay_with_their_images():
    data = make(digits(), train_size=12)
    for split in data[:2]:
        number = np.array(numbers(split))
        np.testing.assert_allclose(split.x[:, 0], number / 255, rtol=1e-6)
        np.testing.assert_allclose(split.x[:, 1], 1 - number / 255, rtol=1e-6)
        np.testing.assert_array_equal(split.y, np.eye(10)[number % 10])
        np.testing.assert_array_equal(split.weight, np.ones(len(number)))


def test_without_an_official_test_set_train_and_test_share_the_images():
    data = make(digits(), train_size=12)
    assert sorted(numbers(data.train) + numbers(data.test)) == list(range(30))


def test_an_official_test_set_is_what_is_tested_on():
    data = make(digits(30, official=8), train_size=30)
    assert sorted(numbers(data.train)) == list(range(30))
    assert sorted(numbers(data.test)) == list(range(30, 38))
    assert numbers(data.train) != list(range(30))  # drawn, not taken in turn


@pytest.mark.parametrize("official", [0, 9])
def test_a_larger_set_begins_with_the_smaller_one_of_the_same_seed(official):
    found = digits(30, official)
    small = make(found, train_size=5, test_size=3)
    large = make(found, train_size=21, test_size=8)
    assert numbers(large.train)[:5] == numbers(small.train)
    assert numbers(large.test)[:3] == numbers(small.test)


def test_the_draw_follows_the_data_key_alone():
    same = rng.run_keys(7)._replace(data=KEYS.data)
    first, second, third = (
        numbers(make(digits(), keys, train_size=12).train)
        for keys in (KEYS, same, rng.run_keys(1))
    )
    assert first == second != third


def test_messiness_blends_the_image_with_the_template_of_its_class():
    found, sizes = digits(30, official=8), {"train_size": 30}
    plain, template, half = (
        make(found, messiness=m, **sizes) for m in (1.0, 0.0, 0.25)
    )
    for a, b, c in zip(plain[:2], template[:2], half[:2], strict=True):
        label = np.argmax(a.y, axis=1)
        expected = np.repeat(np.linspace(-0.5, 0.5, 10)[label][:, None], 4, axis=1)
        np.testing.assert_allclose(b.x, expected, atol=1e-7)
        np.testing.assert_allclose(c.x, 0.25 * a.x + 0.75 * b.x, atol=1e-7)


def test_messiness_is_traced_and_one_leaves_the_images_as_they_are(compilations):
    plain = make(digits(), train_size=12)
    with compilations() as names:
        for messiness in (1.0, 0.3):
            blended = make(digits(), train_size=12, messiness=messiness)
            same = np.array_equal(blended.train.x, plain.train.x)
            assert same == (messiness == 1.0)
    assert sum("make" in name for name in names) == 1


@pytest.mark.parametrize(
    ("official", "train_size", "test_size", "says"),
    [
        (0, 31, 0, "30 digits, 0 of them for testing"),
        (0, 30, 0, "30 digits, 0 of them for testing"),
        (0, 12, 19, "30 digits, 18 of them for testing"),
        (5, 31, 0, "train_size 31"),
        (5, 9, 6, "30 digits, 5 of them for testing"),
    ],
)
def test_too_few_digits_are_refused(official, train_size, test_size, says):
    with pytest.raises(SettingError, match=says):
        sizes = {"train_size": train_size, "test_size": test_size}
        make(digits(30, official), **sizes)


def centroid_accuracy(data):
    """Test accuracy of the nearest class mean of the train images."""
    centroids = data.train.y.T @ data.train.x / jnp.sum(data.train.y, axis=0)[:, None]
    score = data.test.x @ centroids.T - jnp.sum(centroids**2, axis=1)[None] / 2
    return jnp.mean(jnp.argmax(score, axis=1) == jnp.argmax(data.test.y, axis=1))


@pytest.fixture(scope="module")
def packaged():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GROK_JAX_DATA", raising=False)
        patch.setenv("XDG_CACHE_HOME", "/nowhere")
        return load_digits()


def test_the_packaged_digits_are_digits(packaged):
    data = make(packaged, test_size=2000)
    assert data.train.x.shape == (1000, 784) and data.test.x.shape == (2000, 784)
    assert data.train.x.dtype == jnp.zeros(1).dtype
    assert data.train.x.min() == 0 and data.train.x.max() == 1
    assert 0.1 < data.train.x.mean() < 0.15  # 0.1307 over all of MNIST
    assert 0.7 < centroid_accuracy(data) < 0.95


def test_the_real_digits_are_digits():
    folder = os.path.join(os.environ.get("GROK_JAX_DATA", ""), "mnist")
    if not os.path.isdir(folder):
        pytest.skip("GROK_JAX_DATA names no folder with MNIST")
    found = load_digits()
    assert len(found["images"]) == 60_000 and len(found["test_images"]) == 10_000
    data = make(found)
    np.testing.assert_allclose(data.train.x.mean(), 0.1307, atol=0.01)
    assert 0.7 < centroid_accuracy(data) < 0.95


# its files

IMAGES = np.arange(5 * 6, dtype=np.uint8).reshape(5, 2, 3)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)
DIGITS = {
    "images": IMAGES.reshape(5, 6),
    "labels": LABELS,
    "test_images": IMAGES[:2].reshape(2, 6) + 100,
    "test_labels": LABELS[:2],
}


def idx(values, *, magic=None):
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return (magic or bytes((0, 0, 8, values.ndim))) + sizes + values.tobytes()


def put_idx(folder, suffix="", **changed):
    contents = {
        "train-images": idx(IMAGES),
        "train-labels": idx(LABELS),
        "t10k-images": idx(IMAGES[:2] + 100),
        "t10k-labels": idx(LABELS[:2]),
        **{name.replace("_", "-"): content for name, content in changed.items()},
    }
    for name, content in contents.items():
        if content is not None:
            dimensions = 3 if name.endswith("images") else 1
            full = f"{name}-idx{dimensions}-ubyte{suffix}"
            put(folder, full, gzip.compress(content) if suffix else content)
    return str(folder)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_give_their_digits_gzipped_or_not(suffix, tmp_path):
    assert_same(load_digits(folder=put_idx(tmp_path, suffix)), DIGITS)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"train_images": None}, "lacks train-images-idx3-ubyte"),
        ({"train_images": idx(IMAGES)[:-1]}, "29 bytes of data where its header ann"),
        ({"train_images": idx(IMAGES) + b"x"}, "31 bytes of data where its header ann"),
        ({"t10k_labels": idx(LABELS)[:6]}, "t10k-labels-idx1-ubyte ends within its he"),
        (
            {"t10k_labels": b""},
            "begins with nothing instead of the magic number 00000801",
        ),
        (
            {"train_labels": idx(LABELS, magic=b"\0\0\x0d\1")},
            "begins with 00000d01 inst",
        ),
        ({"train_labels": idx(IMAGES)}, "begins with 00000803 instead of the magic"),
        ({"train_labels": idx(LABELS[:4])}, "has 5 images but 4 labels"),
        ({"train_labels": idx(LABELS + 5)}, "labels that are not digits from 0 to 9"),
        (
            {"t10k_images": idx(IMAGES[:2, :, :2])},
            "images of shape (2, 3) to train on and (2, 2) to",
        ),
        ({"t10k_images": idx(IMAGES[:0]), "t10k_labels": idx(LABELS[:0])}, "no images"),
    ],
)
def test_damaged_idx_files_say_what_is_wrong(changed, says, tmp_path):
    folder = put_idx(tmp_path, **changed)
    refused(lambda: load_digits(folder=folder), says)


def test_a_compressed_file_that_is_cut_short_or_not_compressed_is_named(tmp_path):
    folder = put_idx(tmp_path, suffix=".gz")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    refused(lambda: load_digits(folder=folder), str(path), "could not be read")
    path.write_bytes(idx(IMAGES))
    refused(lambda: load_digits(folder=folder), str(path), "could not be read")


def test_the_packaged_digits_are_five_hundred_of_each(monkeypatch, tmp_path):
    monkeypatch.delenv("GROK_JAX_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = load_digits()
    assert found["images"].shape == (5000, 784) and found["images"].dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(found["labels"]), np.full(10, 500))
    assert found["test_images"].shape == (0, 784) and len(found["test_labels"]) == 0
