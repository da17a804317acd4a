"""Binary operations modulo p on all pairs: as one-hot table, tokens or embeddings."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from grok_jax.rng import Keys
from grok_jax.settings import (
    Count,
    Fraction,
    SettingError,
    StaticFraction,
    lookup,
)
from grok_jax.tasks import reading
from grok_jax.tasks.reading import DataError, Files
from grok_jax.types import Dataset, Split

Operation = Literal[
    "addition",
    "subtraction",
    "multiplication",
    "division",
    "sum_of_squares",
    "quadratic",
    "quadratic_plus",
    "cubic",
    "cubic_plus",
]
OPERATIONS: dict[str, Callable[[Array, Array, int], Array]] = {
    "addition": lambda a, b, p: (a + b) % p,
    "subtraction": lambda a, b, p: (a - b) % p,
    "multiplication": lambda a, b, p: (a * b) % p,
    "division": lambda a, b, p: (a * _inverses(p)[b]) % p,
    "sum_of_squares": lambda a, b, p: (a * a + b * b) % p,
    "quadratic": lambda a, b, p: (a * a + a * b + b * b) % p,
    "quadratic_plus": lambda a, b, p: (a * a + a * b + b * b + a) % p,
    "cubic": lambda a, b, p: (a * a % p * a + a * b) % p,
    "cubic_plus": lambda a, b, p: (a * a % p * a + b * b % p * a + b) % p,
}
"""(a, b, p) -> (a o b) mod p for integers [n] from 0 to p - 1; Power et al. 2022, arXiv
2201.02177. Intermediate values are at most 4 p^2, which fits int32 for p < 23,000."""

_SUFFIXES = (".npy", ".csv")
_FORMS = f"a table of numbers ({', '.join(_SUFFIXES)})"


def modular(
    keys: Keys,
    *,
    operation: Operation = "addition",
    modulus: Count = 23,
    train_fraction: Fraction = 0.9,
) -> Dataset:
    """(a o b) mod p for all p^2 pairs; x [p^2, 2p] is the one-hot code of a and b, and
    y [p^2, p] that of the answer.

    Division is by b > 0 and modulo a prime: p (p - 1) pairs. The split is a weight:
    train and test share the table, so that the train fraction and the split seed do not
    change shapes. round(train_fraction p^2) pairs are used for training; a smaller
    fraction with the same seed uses a subset of them.
    """
    p = modulus
    table = _pairs(operation, p)
    x = jnp.concatenate([jax.nn.one_hot(table[v], p) for v in ("a", "b")], axis=1)
    y = jax.nn.one_hot(table["answer"], p)
    place = jax.random.permutation(keys.split, len(x))
    train = (place < jnp.round(train_fraction * len(x))).astype(x.dtype)
    return Dataset(Split(x, y, train), Split(x, y, 1 - train), table)


def modular_tokens(
    keys: Keys,
    *,
    operation: Operation = "addition",
    modulus: Count = 113,
    train_fraction: StaticFraction = 0.3,
    equals: bool = True,
) -> Dataset:
    """Sequences "a b =" with the answer (a o b) mod p: x [n, 3] int32 tokens, where "="
    is token p, and y [n] int32 (Nanda et al. 2023; Omnigrok, Fig. 7).

    Train and test are separate arrays, so that a step processes only the train pairs;
    shapes depend on the fraction. The pairs are those that `modular` chooses; a smaller
    fraction with the same seed uses a subset of them. extras hold a, b and answer [p^2]
    of all pairs, as in `modular`.

    Args:
      equals: False for sequences "a b", x [n, 2] of p tokens (Xu et al. 2025).
    """
    table = _pairs(operation, modulus)
    words = [table["a"], table["b"]]
    if equals:
        words.append(jnp.full_like(table["a"], modulus))
    x = jnp.stack(words, axis=1).astype(jnp.int32)
    return _choose(keys, x, table, train_fraction)


def modular_embedded(
    keys: Keys,
    *,
    files: dict[str, Array],
    operation: Operation = "addition",
    modulus: Count = 113,
    train_fraction: StaticFraction = 0.25,
    embedding: Literal["one_hot", "binary", "fourier", "file"] = "one_hot",
    frequencies: Count = 7,
    folder: str = "",
) -> Dataset:
    """x [n, 2d] holds fixed embeddings of a and b, each of unit length, and y [n] int32
    is (a o b) mod p (Xu et al. 2025, Fig. 2).

    The pairs and extras are those of `modular_tokens` for the same seed and fraction.
    A row of zeros (the integer 0 in binary digits) stays zero.

    Args:
      files: the result of `load_embedding`.
      embedding: `one_hot`, d = p; `binary`, the digits, most significant first,
        d = floor(log2(p - 1)) + 1; `fourier`, cos and sin of 2 pi k a / p for the first
        `frequencies` primes k, d = 2 frequencies; `file`, the rows of a file.
      folder: that file, or the folder that contains it; "" for the usual places (see
        `tasks.reading`).
    """
    del folder  # read by load_embedding
    if embedding == "file":
        rows = jnp.asarray(files["embedding"], float)
    else:
        rows = _embedding(embedding, modulus, frequencies)
    norm = jnp.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / jnp.where(norm > 0, norm, 1)
    table = _pairs(operation, modulus)
    x = jnp.concatenate([rows[table["a"]], rows[table["b"]]], axis=1)
    return _choose(keys, x, table, train_fraction)


def _choose(
    keys: Keys, x: Array, table: dict[str, Array], train_fraction: float
) -> Dataset:
    """The pairs that `modular` chooses, as separate arrays for train and test."""
    count = round(train_fraction * len(x))
    if count == 0:
        raise SettingError(
            f"task.train_fraction {train_fraction} of {len(x)} pairs rounds to no pair."
        )
    order = jnp.argsort(jax.random.permutation(keys.split, len(x)))

    def split(pairs: Array) -> Split:
        y = table["answer"][pairs].astype(jnp.int32)
        return Split(x[pairs], y, jnp.ones(len(pairs)))

    return Dataset(split(order[:count]), split(order[count:]), table)


def _pairs(operation: str, p: int) -> dict[str, Array]:
    """a, b and answer [p^2] of every pair, in row-major order."""
    answer = lookup(OPERATIONS, operation, "operation")
    divides = operation == "division"
    if divides and not _is_prime(p):
        raise SettingError(
            f"task.operation division needs a prime task.modulus, which {p} is not."
        )
    axes = jnp.arange(p), jnp.arange(int(divides), p)
    a, b = (v.ravel() for v in jnp.meshgrid(*axes, indexing="ij"))
    return {"a": a, "b": b, "answer": answer(a, b, p)}


def _inverses(p: int) -> Array:
    """b^-1 mod p for b = 0 .. p - 1, [p], and a prime p; 0 for b = 0."""
    return jnp.array([0, *(pow(b, -1, p) for b in range(1, p))])


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % k for k in range(2, math.isqrt(n) + 1))


def _embedding(name: str, p: int, frequencies: int) -> Array:
    """The embedding [p, d], one row for each integer below p."""
    numbers = jnp.arange(p)[:, None]
    if name == "one_hot":
        return jnp.eye(p)
    if name == "binary":
        places = jnp.arange(max((p - 1).bit_length(), 1))[::-1]
        return ((numbers >> places[None]) & 1).astype(float)
    primes = filter(_is_prime, itertools.count(2))
    k = list(itertools.islice(primes, frequencies))
    if 2 * k[-1] > p:
        raise SettingError(
            f"task.frequencies {frequencies} goes up to the frequency {k[-1]}, but "
            f"task.modulus {p} has none above {p // 2}."
        )
    angle = 2 * jnp.pi / p * (numbers * jnp.array(k)[None] % p)
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=1)


def modular_sizes(*, modulus: Count = 113) -> dict[str, int]:
    """The sizes of the data of `modular` and `modular_embedded` (`types.Task`)."""
    return {"outputs": modulus}


def token_sizes(*, modulus: Count = 113, equals: bool = True) -> dict[str, int]:
    """The sizes of the data of `modular_tokens` (`types.Task`)."""
    return {"vocabulary": modulus + equals, "outputs": modulus}


def load_embedding(
    *, embedding: str = "one_hot", modulus: Count = 113, folder: str = ""
) -> Files:
    """`embedding` [modulus, d] float32, one row for each integer, if `embedding` is
    "file"; an empty dict for the other embeddings, which need no file.

    The file is a NumPy .npy array, or comma-separated numbers without a header.
    `folder` may be the file itself; the usual folders are named "embedding".
    """
    if embedding != "file":
        return {}
    path = Path(folder).expanduser()
    if folder and not path.exists():
        raise DataError(f"task.folder is {path}, which does not exist.")
    if folder and path.is_file():
        return {"embedding": _vectors(path, modulus)}

    def read(place: Path) -> Files | None:
        tables = reading.tables(place, *_SUFFIXES)
        return {"embedding": _vectors(tables[0], modulus)} if tables else None

    found = reading.find("embedding", folder, read, _FORMS)
    if found is None:
        raise DataError(
            f"There is no embedding here: put {_FORMS} into "
            f"{reading.cache('embedding')}, or give its path as task.folder."
        )
    return found


def _vectors(path: Path, modulus: int) -> np.ndarray:
    """The numbers in a file, checked to be finite and one row for each integer."""
    table = reading.numbers(path)
    if not np.issubdtype(table.dtype, np.number) or np.iscomplexobj(table):
        raise DataError(f"{path} has values of type {table.dtype}, not real numbers.")
    if table.ndim != 2 or len(table) != modulus or not table.size:
        raise DataError(
            f"{path} has shape {table.shape}, where task.modulus {modulus} needs "
            f"({modulus}, d), a row for each integer."
        )
    with np.errstate(over="ignore"):
        table = table.astype(np.float32)
    if wrong := np.sum(~np.isfinite(table)):
        raise DataError(
            f"{path} has numbers that are not finite ({wrong} of {table.size})."
        )
    return table
