"""The seven tasks, with a train fraction that is traced, and what they are trained by.

The train set is a pool of examples, of which the first `train_fraction` have weight 1
and the others 0: a run's fraction changes no shape. `extras["weak"]` [pool, 8] holds
what the first layer of a small network, trained on the run's own train examples, makes
of the pool; the embedding theory compares the large network's first layer with it.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax import Array

from grok_jax import losses, optim
from grok_jax.models import wrappers
from grok_jax.models.mlp import mlp
from grok_jax.rng import Keys, named_key
from grok_jax.settings import Count, Fraction, NonNegative, Positive
from grok_jax.tasks import mnist, modular, parity, polynomial, teacher_student, xor
from grok_jax.train import threshold
from grok_jax.types import Apply, Dataset, Params, Scalar, Split, Task

PerExample = Callable[[Array, Array], Array]
WEAK_WIDTH, WEAK_STEPS = 8, 600
"""The weak network: one hidden layer, and its steps of AdamW."""


def _begun(
    data: Dataset, keys: Keys, train_fraction: Scalar, loss: PerExample
) -> Dataset:
    """The data with the first `train_fraction` of the train examples alone, and what
    a weak network made of them."""
    x, y, weight = data.train
    count = jnp.maximum(jnp.round(train_fraction * len(weight)), 1)
    train = Split(x, y, (jnp.arange(len(weight)) < count).astype(float))
    return Dataset(train, data.test, {"weak": _weak(train, keys, loss)})


def _weak(train: Split, keys: Keys, loss: PerExample) -> Array:
    """The first layer of a weak network trained on `train`, on all of its x."""
    model = mlp(width=WEAK_WIDTH, layers=1, outputs=max(train.y.shape[1:], default=0))
    params = model.init(named_key(keys.init, "weak"), train.x[:1])
    tx = optax.adamw(1e-2, weight_decay=0.1)

    def mean_loss(params: dict) -> Array:
        f = model.apply(params, train.x)
        return losses.weighted_mean(loss(f, train.y), train.weight)

    def step(_: int, carry: tuple) -> tuple:
        params, state = carry
        updates, state = tx.update(jax.grad(mean_loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params, _ = jax.lax.fori_loop(0, WEAK_STEPS, step, (params, tx.init(params)))
    return train.x @ params["layer_0"]["w"]


def polynomial_pool(
    keys: Keys,
    *,
    train_fraction: Fraction = 0.5,
    input_dim: Count = 12,
    pool: Count = 256,
    test_size: Count = 256,
) -> Dataset:
    """y = (beta . x)^2 / 2 (Kumar et al. 2024), with mean 0 and variance 1."""
    data = polynomial.polynomial(
        keys, input_dim=input_dim, train_size=pool, test_size=test_size
    )
    square = jnp.sum(data.extras["beta"] ** 2) / input_dim  # the variance of beta . x
    scale = jnp.sqrt(jnp.asarray(input_dim, float))  # inputs of unit variance

    def unit(split: Split) -> Split:
        y = (split.y - square / 2) / (square / jnp.sqrt(2.0))
        return Split(split.x * scale, y, split.weight)

    moved = Dataset(unit(data.train), unit(data.test), {})
    return _begun(moved, keys, train_fraction, losses.squared_error)


def teacher_pool(
    keys: Keys,
    *,
    train_fraction: Fraction = 0.5,
    input_dim: Count = 8,
    outputs: Count = 2,
    teacher_width: Count = 20,
    gain: Positive = 5.0,
    pool: Count = 256,
    test_size: Count = 256,
) -> Dataset:
    """A tanh teacher (Liu et al. 2023) that sees its inputs `gain` times larger, so
    that it is no linear map; each output has mean 0 and variance 1 over the pool."""
    data = teacher_student.teacher_student(
        keys,
        input_dim=input_dim,
        outputs=outputs,
        teacher_width=teacher_width,
        train_size=pool,
        test_size=test_size,
    )

    def answer(x: Array) -> Array:
        return teacher_student.answer(data.extras, gain * x)

    y = answer(data.train.x)
    mean, deviation = y.mean(0, keepdims=True), y.std(0, keepdims=True)
    train = data.train._replace(y=(y - mean) / deviation)
    test = data.test._replace(y=(answer(data.test.x) - mean) / deviation)
    made = Dataset(train, test, {})
    return _begun(made, keys, train_fraction, losses.mean_squared_error)


def parity_pool(
    keys: Keys,
    *,
    train_fraction: Fraction = 0.5,
    bits: Count = 20,
    support: Count = 3,
    pool: Count = 512,
    test_size: Count = 512,
) -> Dataset:
    """The parity of `support` of `bits` bits (Xu et al. 2025, Sec. 4)."""
    data = parity.sparse_parity(
        keys, bits=bits, support=support, train_size=pool, test_size=test_size
    )
    return _begun(data, keys, train_fraction, optax.sigmoid_binary_cross_entropy)


def xor_pool(
    keys: Keys,
    *,
    train_fraction: Fraction = 0.5,
    dimension: Count = 60,
    noise: Positive = 0.3,
    pool: Count = 256,
    test_size: Count = 512,
) -> Dataset:
    """XOR clusters (Xu et al. 2025, Sec. 3): the sign of the product of two signal
    coordinates of +-1 beside noise of +-`noise`; y in {0, 1}."""
    data = xor.xor_clusters(
        keys, dimension=dimension, train_size=pool, test_size=test_size
    )
    scale = jnp.where(jnp.arange(dimension) < 2, 1.0, noise)[None]

    def scaled(split: Split) -> Split:
        return Split(split.x * scale, (split.y > 0).astype(float), split.weight)

    moved = Dataset(scaled(data.train), scaled(data.test), {})
    return _begun(moved, keys, train_fraction, optax.sigmoid_binary_cross_entropy)


def _digits(
    keys: Keys,
    *,
    files: dict[str, Array],
    train_fraction: Fraction = 0.5,
    pool: Count = 400,
    test_size: Count = 500,
    folder: str = "",
) -> Dataset:
    """Handwritten digits, averaged over blocks of 4 x 4 pixels to 7 x 7, mean 0 and
    variance 1 over the pool; y is one-hot."""
    data = mnist.mnist(keys, files=files, train_size=pool, test_size=test_size)
    del folder

    def small(split: Split) -> Array:
        blocks = split.x.reshape(-1, 7, 4, 7, 4)
        return blocks.mean((2, 4)).reshape(-1, 49)

    x, x_test = small(data.train), small(data.test)
    mean, deviation = x.mean(), x.std()
    moved = Dataset(
        data.train._replace(x=(x - mean) / deviation),
        data.test._replace(x=(x_test - mean) / deviation),
        {},
    )
    return _begun(moved, keys, train_fraction, losses.cross_entropy)


def _digit_sizes() -> dict[str, int]:
    return {"inputs": 49, "outputs": 10}


digits_pool = Task(_digits, mnist.load_digits, _digit_sizes)


def pairs(
    keys: Keys,
    *,
    train_fraction: Fraction = 0.5,
    operation: Literal["addition", "multiplication"] = "addition",
    modulus: Count = 23,
) -> Dataset:
    """Modular addition or multiplication of one-hot numbers; the pairs that are not
    used to train are the test set."""
    data = modular.modular(
        keys, operation=operation, modulus=modulus, train_fraction=train_fraction
    )
    return data._replace(extras={"weak": _weak(data.train, keys, losses.cross_entropy)})


def _tokens_of_pairs(
    keys: Keys,
    *,
    train_fraction: Fraction = 0.5,
    operation: Literal["addition", "multiplication"] = "addition",
    modulus: Count = 17,
) -> Dataset:
    """The same as sequences "a b =" of tokens, with labels, for a transformer."""
    data = pairs(
        keys, train_fraction=train_fraction, operation=operation, modulus=modulus
    )
    a, b = (data.train.x.reshape(-1, 2, modulus).argmax(-1).T).astype(jnp.int32)
    x = jnp.stack([a, b, jnp.full_like(a, modulus)], axis=1)

    def tokens(split: Split) -> Split:
        return Split(x, split.y.argmax(-1).astype(jnp.int32), split.weight)

    return Dataset(tokens(data.train), tokens(data.test), data.extras)


def _token_sizes(*, modulus: Count = 17) -> dict[str, int]:
    return {"vocabulary": modulus + 1, "outputs": modulus}


token_pairs = Task(_tokens_of_pairs, sizes=_token_sizes)


def explained() -> losses.Loss:
    """Mean squared error; the accuracy is the share of a unit variance explained,
    1 - error."""
    return losses.Loss(
        losses.mean_squared_error, lambda f, y: 1 - losses.mean_squared_error(f, y)
    )


def decayed(
    *,
    method: Literal["adamw", "momentum"] = "adamw",
    learning_rate: Positive = 1e-3,
    weight_decay: NonNegative = 0.0,
) -> optax.GradientTransformation:
    """AdamW, or gradient descent with momentum 0.9 and the same decoupled decay: both
    shrink the weights by learning_rate x weight_decay a step."""
    if method == "adamw":
        return optim.adamw(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        optax.trace(decay=0.9),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


def generalised(
    record: dict[str, Array], *, train: Fraction = 0.95, test: Fraction = 0.95
) -> Array:
    """A stop rule: train and test accuracy are both reached."""
    reached = [
        threshold(record, metric=f"{name}_accuracy", threshold=level, above=True)
        for name, level in (("train", train), ("test", test))
    ]
    return jnp.minimum(*reached)


def more_decay(
    *,
    learning_rate: Positive = 1e-3,
    weight_decay: NonNegative = 0.1,
    times: Positive = 1.0,
) -> optax.GradientTransformation:
    """AdamW with `times` the weight decay."""
    return optim.adamw(learning_rate=learning_rate, weight_decay=times * weight_decay)


def on_sphere(
    *, learning_rate: Positive = 1e-3, radius: Positive = 1.0
) -> optax.GradientTransformation:
    """Adam without decay on the sphere of `radius` times the initial norm (Liu et al.
    2023, Sec. 3); the first step goes there."""
    fixed = optim.fixed_norm(optim.adamw(learning_rate=learning_rate))

    def init(params: Params) -> optim.FixedNormState:
        state: Any = fixed.init(params)
        return state._replace(radius=state.radius * radius)

    return optax.GradientTransformation(init, fixed.update)


def at_scale(
    *,
    learning_rate: Positive = 1e-3,
    weight_decay: NonNegative = 0.0,
    scale: Positive = 1.0,
    power: NonNegative = 0.0,
) -> optax.GradientTransformation:
    """AdamW for parameters that are `scale` times as large: its rate times scale^power
    and its decay over it, so that with power 1 both take the same share of them."""
    factor = scale**power
    return optim.adamw(
        learning_rate=learning_rate * factor, weight_decay=weight_decay / factor
    )


def scaled(apply: Apply, anchor: Params, *, factor: Positive = 1.0) -> Apply:
    """A wrapper: the network times `factor`, beside its output scale."""
    del anchor
    return wrappers.scale_output(apply, factor)
