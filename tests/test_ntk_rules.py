"""Every rule of the kernel on random shapes, against brute force in float64.

`EXAMPLES=100 pytest tests/test_ntk_rules.py` tries more shapes than a session does.
"""

import math
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grok_jax import ntk
from grok_jax.ntk import empirical

few = settings(
    max_examples=int(os.environ.get("EXAMPLES", 4)),
    deadline=None,
    derandomize=True,
    database=None,
)
sizes = st.integers(1, 3)
rules = st.sampled_from(["gram", "gradient"])


@pytest.fixture(scope="module", autouse=True)
def float64():
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def check(apply_fn, params, x, rule, explicit=()):
    """That the kernel is J J^T, its leaves add up, it is symmetric and has no negative
    eigenvalue, and no leaf but some is left to an explicit gradient."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(empirical, "_gram_is_cheaper", lambda *_: rule == "gram")
        found = ntk.explain(apply_fn, params, x)

        @jax.jit
        def both_ways(params, x):
            kernels = [of(apply_fn, params, x, kind="full") for of in (whole, parts)]
            rows = jax.vmap(jax.jacrev(lambda p, x: apply_fn(p, x[None])[0]), (None, 0))
            return *kernels, rows(params, x)

        whole, parts = ntk.empirical_ntk, ntk.layer_ntks
        kernel, leaves, rows = both_ways(params, x)
    kernel = np.asarray(kernel)
    jacobians = [j.reshape(*j.shape[:2], -1) for j in jax.tree.leaves(rows)]
    expected = sum(np.einsum("ncp,mdp->nmcd", j, j) for j in map(np.asarray, jacobians))
    scale = np.abs(expected).max() + 1e-300
    np.testing.assert_allclose(kernel, expected, rtol=1e-10, atol=1e-12 * scale)
    total = sum(map(np.asarray, jax.tree.leaves(leaves)))
    np.testing.assert_allclose(total, kernel, rtol=1e-10, atol=1e-12 * scale)
    flat = np.asarray(ntk.flatten_kernel(kernel))
    assert (flat == flat.T).all()
    assert np.linalg.eigvalsh(flat).min() > -1e-11 * scale * len(flat)
    assert {leaf.path for leaf in found if leaf.rule == "explicit"} == set(explicit)


@few
@given(
    rule=rules,
    layout=st.sampled_from(["NHWC", "NCHW"]),
    groups=st.integers(1, 2),
    kernel=st.tuples(sizes, sizes),
    strides=st.tuples(sizes, sizes),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    spread=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(*[st.tuples(st.integers(-1, 2), st.integers(0, 2))] * 2),
    per_group=st.tuples(sizes, sizes),
)
def test_convolutions(
    rule, layout, groups, kernel, strides, dilation, spread, padding, per_group
):
    """Of all strides, dilations, groups and paddings, also transposed ones."""
    channels = groups * per_group[0], groups * per_group[1]
    shape = (3, 7, 8, channels[0]) if layout == "NHWC" else (3, channels[0], 7, 8)
    order = "HWIO" if layout == "NHWC" else "OIHW"
    weight = dict(zip("HWIO", (*kernel, per_group[0], channels[1]), strict=True))
    params = {
        "first": normal(0, channels[0]),
        "w": normal(1, *(weight[axis] for axis in order)),
    }

    def apply(params, x):
        axis = layout.index("C")
        scale = params["first"].reshape([-1 if i == axis else 1 for i in range(4)])
        y = jax.lax.conv_general_dilated(
            jnp.tanh(x * scale),
            params["w"],
            strides,
            padding,
            lhs_dilation=spread,
            rhs_dilation=dilation,
            dimension_numbers=(layout, order, layout),
            feature_group_count=groups,
        )
        return jnp.tanh(y).reshape(len(x), -1)[:, :4]

    check(apply, params, normal(2, *shape), rule, {"first"})


@few
@given(
    rule=rules,
    batch=st.lists(sizes, max_size=2),
    positions=st.lists(sizes, max_size=2),
    inputs=st.lists(sizes, min_size=1, max_size=2),
    outputs=st.lists(sizes, max_size=2),
    order=st.randoms(use_true_random=False),
    weight_first=st.booleans(),
)
def test_products(rule, batch, positions, inputs, outputs, order, weight_first):
    """Of weights and inputs with their axes in any order, batched and not."""
    names = iter("abcdefgh")
    letters = [
        [next(names) for _ in axes] for axes in (batch, positions, inputs, outputs)
    ]
    size = dict(
        zip(
            (n for group in letters for n in group),
            (s for axes in (batch, positions, inputs, outputs) for s in axes),
            strict=True,
        )
    )

    def shuffled(*groups):
        found = [n for group in groups for n in letters[group]]
        order.shuffle(found)
        return "".join(found)

    weight, other, result = shuffled(0, 2, 3), shuffled(0, 1, 2), shuffled(0, 1, 3)
    params = {"w": normal(0, *(size[n] for n in weight))}
    x = normal(1, 3, math.prod(size[n] for n in other))

    def apply(params, x):
        rows = jnp.tanh(x).reshape(len(x), *(size[n] for n in other))
        if weight_first:
            y = jnp.einsum(f"{weight},n{other}->n{result}", params["w"], rows)
        else:
            y = jnp.einsum(f"n{other},{weight}->n{result}", rows, params["w"])
        return jnp.tanh(y).reshape(len(x), -1)[:, :4]

    check(apply, params, x, rule)


@few
@given(
    rule=rules,
    length=sizes,
    inner=sizes,
    reverse=st.booleans(),
    width=sizes,
    carried=st.booleans(),
)
def test_scans(rule, length, inner, reverse, width, carried):
    """Of layers with slices of stacked weights, and of one layer at every turn, in a
    scan within a scan."""
    params = {
        "bias": normal(0, length, width),
        "each": normal(1, length, width, width),
        "same": normal(2, width, width),
    }

    def apply(params, x):
        def turn(h, _):
            h = jnp.tanh(h @ params["same"])
            return h, h

        def block(h, layer):
            h = jnp.tanh(h @ layer[0] + layer[1])
            last, every = jax.lax.scan(turn, h, None, length=inner)
            return (last if carried else h), every.sum(0)

        layers = params["each"], params["bias"]
        last, every = jax.lax.scan(block, x, layers, reverse=reverse)
        return last + every.sum(0)

    check(apply, params, normal(3, 3, width), rule)


@few
@given(
    rule=rules,
    vocabulary=st.integers(2, 5),
    width=sizes,
    tokens=sizes,
    reads=sizes,
    transposed=st.booleans(),
    biased=st.booleans(),
    axis=st.integers(0, 1),
)
def test_tied_embeddings(
    rule, vocabulary, width, tokens, reads, transposed, biased, axis
):
    """Of a table that is looked up, and read out by its transpose or a product."""
    shape = (vocabulary, width) if axis == 0 else (width, vocabulary)
    params = {"mix": normal(0, width, width), "table": normal(1, *shape)}
    params |= {"bias": normal(2, vocabulary)} if biased else {}
    x = np.random.default_rng(3).integers(0, vocabulary, (3, tokens)).astype(float)

    def apply(params, x):
        table = params["table"]
        found = jnp.take(table, x.astype(int), axis=axis)
        found = jnp.tanh(found if axis == 0 else jnp.moveaxis(found, 0, -1))
        h = jnp.tanh(found[:, :reads] @ params["mix"])
        if transposed and axis == 0:
            f = h @ (0.5 * table.T)
        else:
            f = jnp.einsum("ntd,vd->ntv" if axis == 0 else "ntd,dv->ntv", h, table)
        f = f + params["bias"] if biased else f
        return jnp.tanh(f).sum(1)[:, :4]

    left = {"table", "bias"} if biased else {"table"}
    check(apply, params, x, rule, () if rule == "gram" else left)


def test_every_kind_of_a_tied_embedding():
    """Also with two sets of inputs, and under a look-up out of bounds."""
    params = {"table": normal(0, 5, 3), "mix": normal(1, 3, 3)}

    def apply(params, x):
        h = jnp.tanh(params["table"].at[x].get(mode="fill", fill_value=0).sum(1))
        return jnp.tanh(h @ params["mix"]) @ params["table"].T

    x1 = np.random.default_rng(2).integers(0, 7, (4, 3))
    x2 = np.random.default_rng(3).integers(0, 7, (2, 3))
    row = jax.vmap(jax.jacrev(lambda p, x: apply(p, x[None])[0]), (None, 0))

    def jacobian(x):
        leaves = jax.tree.leaves(row(params, x))
        return np.concatenate([j.reshape(*j.shape[:2], -1) for j in leaves], -1)

    full = np.einsum("ncp,mdp->nmcd", jacobian(x1), jacobian(x2))
    expected = {
        "full": full,
        "diagonal": np.einsum("nmcc->nmc", full),
        "trace": np.einsum("nmcc->nm", full) / 5,
        "pseudo": full.sum((2, 3)) / 5,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(empirical, "_gram_is_cheaper", lambda *_: True)
        assert {leaf.rule for leaf in ntk.explain(apply, params, x1)} == {"gram"}
        for kind, k in expected.items():
            found = ntk.empirical_ntk(apply, params, x1, x2, kind=kind)
            np.testing.assert_allclose(found, k, rtol=1e-10, atol=1e-12)
