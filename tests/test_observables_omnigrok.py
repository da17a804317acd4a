"""Fourier concentration of embeddings and softmax collapse, as a run records them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax import losses, observables, spectra
from grok_jax.settings import SettingError
from grok_jax.types import Dataset, Split


def view_of(params, apply=None, train=None):
    split = train or Split(jnp.zeros((1, 1)), jnp.zeros(1), jnp.ones(1))
    return observables.View(
        apply=apply or (lambda params, x: x),
        params=params,
        anchor=params,
        data=Dataset(split, split, {}),
        kernel=lambda *_: jnp.zeros((1, 1)),
        lift=lambda function: function,
        loss=losses.classification(error="naive_cross_entropy"),
        model={},
    )


def circle(p, frequency, d=4):
    angle = 2 * np.pi * frequency * np.arange(p) / p
    return jnp.asarray(np.stack([np.cos(angle), np.sin(angle)] * (d // 2), axis=1))


def test_the_embedding_is_found_by_name_and_its_last_token_left_out():
    table = jnp.concatenate([circle(11, 3), jnp.full((1, 4), 7.0)])
    view = view_of({"embed": table, "block": {"embed": table[:11]}})
    record = observables.embedding_fourier(view, tokens=11, top=1)
    np.testing.assert_allclose(record["fourier_concentration"], 1, rtol=1e-5)
    record = observables.embedding_fourier(view, top=1)
    np.testing.assert_allclose(
        record["fourier_concentration"], spectra.fourier_concentration(table, 1)
    )
    assert record["fourier_concentration"] < 0.9
    record = observables.embedding_fourier(view, leaf="block.embed", top=1)
    np.testing.assert_allclose(record["fourier_concentration"], 1, rtol=1e-5)


def test_a_parameter_that_is_not_there_names_the_nearest():
    view = view_of({"embed": circle(5, 1), "unembed": circle(5, 1)})
    with pytest.raises(SettingError, match=r"no parameter 'embd'; nearest: embed"):
        observables.embedding_fourier(view, leaf="embd")


LOGITS = jnp.array(
    [
        [200.0, 0.0, 0.0],  # right, and e^-200 is lost beside 1
        [15.0, 0.0, 0.0],  # right, e^-15 > eps / 2
        [0.0, 200.0, 0.0],  # as sure, but wrong
        [0.0, 0.0, 1e4],  # right beyond any precision
    ]
)
LABELS = jnp.array([0, 0, 0, 2])


@pytest.mark.parametrize("one_hot", [False, True])
def test_softmax_collapse_counts_exact_zeros_by_weight(one_hot):
    y = jax.nn.one_hot(LABELS, 3) if one_hot else LABELS
    for weight, share in [
        ([1, 1, 1, 1], 0.5),
        ([1, 0, 1, 0], 0.5),
        ([3, 1, 0, 0], 0.75),
    ]:
        split = Split(LOGITS, y, jnp.asarray(weight, LOGITS.dtype))
        record = jax.jit(lambda s: observables.softmax_collapse(view_of({}, train=s)))(
            split
        )
        np.testing.assert_allclose(record["softmax_collapse"], share)


def test_a_collapsed_example_moves_its_right_logit_no_more_in_the_naive_form():
    split = Split(LOGITS, LABELS, jnp.ones(4))
    gradient = jax.grad(lambda f: jnp.sum(losses.naive_cross_entropy(f, LABELS)))
    right = gradient(LOGITS)[jnp.arange(4), LABELS]
    record = observables.softmax_collapse(view_of({}, train=split))
    np.testing.assert_allclose(record["softmax_collapse"], jnp.mean(right == 0))


def test_lower_precision_collapses_sooner():
    def share(dtype):
        split = Split(LOGITS.astype(dtype), LABELS, jnp.ones(4, dtype))
        return observables.softmax_collapse(view_of({}, train=split))[
            "softmax_collapse"
        ]

    assert share(jnp.bfloat16) == 0.75 and share(jnp.float32) == 0.5


def test_snapshots_of_a_parameter_are_the_parameter(run_sweep):
    layer = dict(
        observe=dict(parameter_snapshots=dict(leaf="w", every=2), norms={}),
        sweep=dict(seed=(0, 1)),
    )
    results = run_sweep(layer)
    kept = results.parameter.transpose("seed", "step", ...)
    assert kept.shape[2:] == (7, 6)
    assert kept.isel(step=1).isnull().all()
    norm = np.sqrt((kept.isel(step=0) ** 2).sum(("parameter_0", "parameter_1")))
    np.testing.assert_allclose(norm, results.weight_norm.isel(step=0), rtol=1e-5)
