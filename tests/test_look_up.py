"""Look-ups against plain indexing, in every derivative and on both kinds of device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import look_up, ntk, tree
from grok_jax.engine import registry
from grok_jax.models.fnn import fnn
from grok_jax.models.transformer import transformer
from grok_jax.ntk.jaxprs import flatten
from grok_jax.ntk.layers import find_layers, is_lookup

DRAW = np.random.default_rng(0)
ROWS = np.array([[1, 2], [1, 4], [0, 1]])  # a row twice, one never


@pytest.fixture(params=["as on a CPU", "as elsewhere"])
def rows_of(request, monkeypatch):
    """`look_up`, with the derivative that a CPU has or with that of other devices."""
    if request.param == "as elsewhere":
        monkeypatch.setattr(
            jax.lax,
            "platform_dependent",
            lambda *operands, default, cpu: default(*operands),
        )
    monkeypatch.setattr(look_up, "_look_up", look_up._rule)  # no traces kept by jit
    return look_up.look_up


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def draw(*shape):
    return jnp.asarray(DRAW.standard_normal(shape))


@pytest.mark.parametrize("shape", [(5, 3), (5,), (5, 2, 3)])
def test_every_derivative_is_that_of_plain_indexing(rows_of, shape):
    table, other = draw(*shape), draw(*shape)
    signal = draw(*ROWS.shape, *shape[1:])

    def derivatives(rows_of):
        def f(table):
            return jnp.sum(signal * jnp.sin(rows_of(table, ROWS)))

        def along(table):
            return jax.jvp(f, (table,), (other,))[1]

        return {
            "value": rows_of(table, ROWS),
            "reverse": jax.grad(f)(table),
            "forward": jax.jacfwd(f)(table),
            "reverse of forward": jax.grad(along)(table),
            "forward of reverse": jax.jvp(jax.grad(f), (table,), (other,))[1],
            "mapped": jax.vmap(jax.grad(f))(jnp.stack([table, other])),
        }

    plain = derivatives(lambda table, rows: table[rows])
    for name, value in derivatives(rows_of).items():
        assert jnp.any(plain[name] != 0)
        np.testing.assert_allclose(
            value, plain[name], rtol=1e-14, atol=1e-15, err_msg=name
        )


def test_tables_and_rows_may_both_be_mapped_over(rows_of):
    tables, signal = draw(3, 5, 2), draw(2, 2)

    def grad(rows_of):
        one = jax.grad(lambda table, rows: jnp.sum(signal * rows_of(table, rows) ** 2))
        return jax.vmap(one)(tables, ROWS)

    plain = grad(lambda table, rows: table[rows])
    np.testing.assert_allclose(grad(rows_of), plain, rtol=1e-14)


def test_rows_that_the_table_does_not_have_are_nan(rows_of):
    found = rows_of(draw(5, 2), jnp.array([4, 5, -1, 0]))
    assert np.isnan(found).any(axis=1).tolist() == [False, True, True, False]


def test_many_tables_share_one_one_hot_matrix(rows_of):
    grad = jax.grad(lambda table: jnp.sum(rows_of(table, ROWS) ** 2))
    text = str(jax.make_jaxpr(jax.vmap(grad))(jnp.zeros((7, 5, 11))))
    assert "[7,3,2,11]" in text  # the rows of each table
    assert "[7,3,2,5]" not in text and "[3,2,7,5]" not in text


def lowered(function, *arguments, platform):
    """The program as the compiler of a platform gets it, which need not be here."""
    traced = jax.jit(function).trace(*arguments)
    return traced.lower(lowering_platforms=(platform,)).as_text()


TOKENS = jax.ShapeDtypeStruct((9, 3), jnp.int32)
NUMBERS = jax.ShapeDtypeStruct((9, 6), jnp.float32)
MODELS = {
    "committee": ({}, NUMBERS),
    "quadratic": ({}, NUMBERS),
    "mlp": ({}, NUMBERS),
    "cluster_net": (dict(width=8), jax.ShapeDtypeStruct((9, 5000), jnp.int8)),
    "fnn": (dict(vocabulary=5, outputs=5, width=8), TOKENS),
    "fnn of few samples": (dict(vocabulary=50, outputs=5, width=8), TOKENS),
    "lstm": (dict(vocabulary=5, embedding=3, hidden=4), TOKENS),
    "gcn": ({}, jax.ShapeDtypeStruct((9, 4, 21), jnp.float32)),
    "transformer": (dict(vocabulary=5, layers=2), TOKENS),
    "transformer of few samples": (dict(vocabulary=50), TOKENS),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("twin", [False, True])
def test_no_model_has_a_scatter_in_its_gradient(name, twin):
    """On a GPU its atomics would give other bits each time, on a TPU it is slow."""
    settings, x = MODELS[name]
    model = registry.MODELS[name.partition(" ")[0]](**settings)
    params = jax.eval_shape(model.init, jax.random.key(0), x)
    many = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), params
    )

    def loss(params, anchor, x):
        net = ntk.linearize(model.apply, anchor) if twin else model.apply
        return jnp.sum(net(params, x) ** 2)

    grads = jax.vmap(jax.grad(loss), in_axes=(0, 0, None))
    for platform in ("cuda", "tpu"):
        text = lowered(grads, many, many, x, platform=platform)
        assert "stablehlo.dot_general" in text
        assert "stablehlo.scatter" not in text, platform
    text = lowered(grads, many, many, x, platform="cpu")
    assert ("stablehlo.scatter" in text) == (x is TOKENS)


def test_all_models_are_among_them():
    named = {name.partition(" ")[0] for name in MODELS}
    assert named == set(registry.MODELS) - {
        "committee_dynamics",
        "committee_flow",
    }  # which have no gradient


@pytest.mark.parametrize(
    "model", [transformer(vocabulary=50), fnn(vocabulary=50, outputs=5, width=8)]
)
def test_the_tangent_kernel_finds_the_table(model):
    """One sample at a time it needs no Jacobian of it."""
    params = jax.eval_shape(model.init, jax.random.key(0), TOKENS)
    leaves, structure = jax.tree.flatten(params)
    names = list(tree.flat_names(params))
    one = jax.ShapeDtypeStruct((3,), jnp.int32)
    jaxpr = jax.make_jaxpr(
        lambda leaves, x: model.apply(structure.unflatten(leaves), x[None])[0]
    )(leaves, one)
    layers, _ = find_layers(flatten(jaxpr), len(leaves))
    assert {names[layer.weight] for layer in layers if is_lookup(layer.products)} == {
        "embed"
    }
