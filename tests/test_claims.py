"""Claims as plain JSON, and as a reader wants them."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from grok_jax.claims import Claim, format_value, min_max


def claim(measured, holds=True):
    return Claim("K1a", "1b", "it rises", "> 1", measured, holds)


@pytest.mark.parametrize(
    ("measured", "plain"),
    [
        (2, 2),
        (0.123456789, 0.123457),
        ("a sentence", "a sentence"),
        (None, None),
        (math.nan, None),
        (math.inf, None),
        (np.float32(0.5), 0.5),
        (jnp.array([1.0, jnp.nan]), [1.0, None]),
        ((1, (2.0, -math.inf)), [1, [2.0, None]]),
        ({"a": np.array(3.0), 2: [True]}, {"a": 3.0, "2": [True]}),
    ],
    ids=str,
)
def test_any_measured_value_becomes_strict_json(measured, plain):
    stored = json.dumps(claim(measured).as_json(), allow_nan=False)
    assert json.loads(stored)["measured"] == plain


@pytest.mark.parametrize("holds", [np.bool_(True), jnp.bool_(False), 1, 0])
def test_holds_is_a_plain_truth_value(holds):
    assert claim(1.0, holds).as_json()["holds"] is bool(holds)


def test_the_fields_are_those_of_the_contract():
    assert list(claim(1.0).as_json()) == [
        "id",
        "place",
        "statement",
        "expected",
        "measured",
        "holds",
        "less",
    ]


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (2150.0, "2,150"),
        (0.12345, "0.123"),
        (3, "3"),
        (True, "True"),
        (None, "never"),
        (math.nan, "never"),
        (math.inf, "inf"),
        ("words", "words"),
        (np.float32(2150.4), "2,150"),
        (np.array([0.5, np.nan]), "0.5, never"),
        ([1, [2, None]], "1, 2, never"),
        ({"alpha 1": 600.0, "alpha 2": [1e6, math.nan]}, "alpha 1: 600; alpha 2: "),
    ],
    ids=str,
)
def test_a_measured_value_is_said_in_a_few_digits(measured, said):
    assert format_value(measured).startswith(said)


def test_what_was_stored_is_said_as_what_was_measured():
    """Infinities apart: JSON has none, so that they are stored as never."""
    for measured in (2150.0, np.array([0.5, np.nan]), {"a": (1, "b"), "c": None}):
        assert format_value(claim(measured).as_json()["measured"]) == format_value(
            measured
        )


def test_min_max_is_the_least_and_the_largest():
    assert min_max(jnp.array([[3.0, -1.0], [2.0, 5.0]])) == {"min": -1.0, "max": 5.0}
    assert math.isnan(min_max([1.0, math.nan])["max"])
