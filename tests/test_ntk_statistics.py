"""Products with a kernel and numbers about it, against the kernel itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import alignment, ntk

RNG = np.random.default_rng(0)
PARAMS = {"w": RNG.standard_normal((3, 6)), "v": RNG.standard_normal((6, 2))}
X = RNG.standard_normal((23, 3))
KINDS = ("trace", "pseudo", "full")


pytestmark = pytest.mark.usefixtures("float64")


def network(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def matrix(kind):
    kernel = ntk.empirical_ntk(network, PARAMS, X, kind=kind)
    return np.asarray(ntk.flatten_kernel(kernel) if kind == "full" else kernel)


def targets(kind):
    return np.random.default_rng(1).standard_normal((23, 2 if kind == "full" else 3))


@pytest.mark.parametrize("batch_size", [1, 4, 23, 100])
@pytest.mark.parametrize("kind", ["full", "diagonal", "trace", "pseudo"])
def test_a_product_does_not_depend_on_the_batch(kind, batch_size):
    shape = (9, 2) if kind in ("full", "diagonal") else (9,)
    vector, x2 = np.random.default_rng(2).standard_normal(shape), X[:9] + 0.5
    kernel = np.asarray(ntk.empirical_ntk(network, PARAMS, X, x2, kind=kind))
    expected = {
        "full": lambda: np.einsum("nmcd,md->nc", kernel, vector),
        "diagonal": lambda: np.einsum("nmc,mc->nc", kernel, vector),
    }.get(kind, lambda: kernel @ vector)()
    actual = ntk.ntk_vector_product(
        network, PARAMS, X, vector, x2, kind=kind, batch_size=batch_size
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-12)


def test_the_memory_of_a_product_does_not_grow_with_the_rows():
    """By XLA's own account, of 1,000 and of 4,000 rows of a wide layer."""
    params = {"w": jnp.ones((3, 500)), "v": jnp.ones((500, 1))}

    def bytes_of(rows):
        def product(x, v):
            return ntk.ntk_vector_product(network, params, x, v, batch_size=50)

        shapes = [jax.ShapeDtypeStruct(s, jnp.float64) for s in ((rows, 3), (rows,))]
        compiled = jax.jit(product).lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = bytes_of(1000), bytes_of(4000)
    inputs = 3000 * (3 + 1) * 8  # what more rows are themselves, and their vector
    assert many - few <= 3 * inputs < 3000 * 500 * 8


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_those_of_the_kernel(kind):
    """Exact ones to their tolerance, estimates within four standard errors."""
    k, y = matrix(kind), targets(kind)
    ridge = 0.5
    found = ntk.kernel_statistics(
        network, PARAMS, X, y, ridge=ridge, kind=kind, probes=64, tolerance=1e-10,
        batch_size=7,
    )  # fmt: skip
    columns = y.reshape(len(k), -1)
    np.testing.assert_allclose(found.trace, np.trace(k), rtol=1e-10)
    difficulty = alignment.difficulty(k, columns, ridge)
    np.testing.assert_allclose(found.difficulty, difficulty, rtol=1e-7)
    dimension = np.trace(np.linalg.solve(k + ridge * np.eye(len(k)), k))
    for value, error, expected in (
        (found.norm, found.norm_error, np.linalg.norm(k)),
        (found.effective_dimension, found.effective_dimension_error, dimension),
        (found.alignment, found.alignment_error, alignment.cka(k, columns)),
    ):
        assert abs(value - expected) <= 4 * error
        assert error < 0.2 * expected


def test_errors_fall_with_the_root_of_the_probes():
    few, many = (
        ntk.kernel_statistics(network, PARAMS, X, X[:, 0], ridge=1.0, probes=p)
        for p in (8, 128)
    )
    assert 2 < few.norm_error / many.norm_error < 8
    assert few.trace == many.trace and few.difficulty == many.difficulty


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (dict(ridge=0.0), ValueError, "ridge must be above 0; got 0.0"),
        (dict(probes=1), ValueError, "probes must be 2 or more; got 1"),
        (dict(y=X[:5]), ValueError, "one row per row of x .23."),
        (dict(kind="full"), ValueError, "one column per output; got shape .23, 3."),
        (dict(batch_size=0), ValueError, "batch_size must be 1 or more; got 0"),
        (dict(tolerance=0.0), RuntimeError, "did not converge in"),
    ],
)
def test_errors_are_one_clear_sentence(change, error, sentence):
    call = dict(apply_fn=network, params=PARAMS, x=X, y=X, ridge=1.0)
    with pytest.raises(error, match=sentence):
        ntk.kernel_statistics(**{**call, **change})
