"""The interactive page: its data are those of the results, and it stays light."""

import base64
import gzip
import json
import re

import numpy as np
import pytest
import xarray as xr

from grok_jax import measures
from grok_jax.engine import explorer

NAN = np.nan
STEPS = np.array([0, 1, 10, 100])


@pytest.fixture
def results():
    """Two widths (each with its own steps) of three seeds, four records."""
    loss = np.arange(24.0).reshape(2, 3, 4) + 0.123456
    loss[0, 1, 2:] = NAN  # stopped
    loss[1, 2, 3] = np.inf  # diverged
    return xr.Dataset(
        {
            "test_loss": (("width", "seed", "step"), loss),
            "train_loss": (("step", "width", "seed"), np.moveaxis(loss, 2, 0) / 2),
            "cka_test": (
                ("width", "seed", "step"),
                np.where(STEPS == 10, 0.5, NAN)
                + 0 * loss[0, 0, 0] * np.ones((2, 3, 4)),
            ),
            "never_recorded": (("width", "seed", "step"), np.full((2, 3, 4), NAN)),
            "spectrum": (("width", "seed", "step", "k"), np.ones((2, 3, 4, 5))),
            "flops": ("width", [1.5, 2.5]),
            "t_train": (("width", "seed"), [[1.0, 1, NAN], [10, NAN, 1]]),
            "t_test": (("width", "seed"), [[100.0, NAN, NAN], [43241, 1, 10]]),
            "diverged": (("width", "seed"), np.arange(6).reshape(2, 3) == 5),
        },
        {
            "width": [8, 16],
            "steps": ("width", [100, 1000]),
            "seed": [100, 101, 102],
            "step": STEPS,
        },
    )


def named(explored, kind):
    return {each["name"]: each for each in explored[kind]}


def numbers(values):
    words = {None: NAN, "inf": np.inf, "-inf": -np.inf}
    return np.array([words.get(each, each) for each in values], float)


def test_every_quantity_is_that_of_its_run(results):
    found = named(explorer.explore(results), "quantities")
    for name in ("t_train", "t_test", "diverged"):
        wanted = results[name].values.ravel().astype(float)
        np.testing.assert_array_equal(numbers(found[name]["values"]), wanted)
    delay = measures.delay(results.t_train.values, results.t_test.values)
    np.testing.assert_array_equal(numbers(found["delay"]["values"]), delay.ravel())
    assert found["delay"]["values"] == [99, "inf", None, 43231, None, 9]
    assert found["flops"]["values"] == [1.5] * 3 + [2.5] * 3
    losses = results.test_loss.where(np.isfinite(results.test_loss))
    for word, wanted in (
        ("least", losses.min("step")),
        ("largest", losses.max("step")),
    ):
        values = numbers(found[f"{word} test_loss"]["values"])
        np.testing.assert_allclose(values, wanted.values.ravel(), rtol=1e-6)
    last = [3.123456, 5.123456, 11.123456, 15.123456, 19.123456, 22.123456]
    np.testing.assert_allclose(numbers(found["last test_loss"]["values"]), last, 1e-6)


def test_every_curve_is_that_of_its_run_at_the_records_it_has(results):
    found = named(explorer.explore(results), "curves")
    for name in ("train_loss", "test_loss"):
        wanted = results[name].transpose("width", "seed", "step").values.ravel()
        np.testing.assert_allclose(numbers(found[name]["values"]), wanted, rtol=5e-4)
        assert found[name]["steps"] == STEPS.tolist()
    assert found["cka_test"]["steps"] == [10]
    assert found["cka_test"]["values"] == [0.5] * 6
    assert [*found] == ["train_loss", "test_loss", "cka_test"]
    assert {each["panel"] for each in found.values()} == {"loss", "cka"}


def test_what_is_not_shown_is_named(results):
    said = explorer.explore(results)["left_out"]
    assert said == ["spectrum (several numbers for each run or record)"]


def test_axes_are_named_and_settings_that_move_together_stand_together(results):
    results = results.assign_coords(seed=["a", "b", "c"])
    width, seed = explorer.explore(results)["axes"]
    assert width["values"] == [8, 16]
    assert width["labels"] == ["8, steps 100", "16, steps 1000"]
    assert seed["values"] is None and seed["labels"] == ["a", "b", "c"]
    bare = explorer.explore(results.drop_vars(["width", "steps"]))["axes"][0]
    assert bare["labels"] == ["0", "1"]


def test_a_run_without_a_sweep_has_no_axes(results):
    one = explorer.explore(results.isel(width=0, seed=0, drop=True))
    assert one["axes"] == [] and named(one, "quantities")["t_test"]["values"] == [100]
    assert len(named(one, "curves")["test_loss"]["values"]) == 4


def noise(runs, records, variables=3):
    draw = np.random.default_rng(0)
    dims, shape = ("width", "seed", "step"), (runs // 10, 10, records)
    curves = {f"c{k}": (dims, draw.lognormal(size=shape)) for k in range(variables)}
    times = {n: (dims[:2], draw.random(shape[:2])) for n in ("t_train", "t_test")}
    return xr.Dataset({**curves, **times}, {"step": np.arange(records)})


@pytest.mark.parametrize(("runs", "records"), [(2000, 300), (90_000, 12)])
def test_a_page_of_noise_stays_below_five_megabytes(runs, records):
    """With numbers for curves, or for many runs."""
    explored = explorer.explore(noise(runs, records), name="noise")
    lists = [each["values"] for k in ("quantities", "curves") for each in explored[k]]
    total = sum(map(len, lists))
    assert 0.45 * explorer.MOST < total <= explorer.MOST
    assert len(explorer.page(explored)) < 5e6


def test_curves_are_thinned_then_left_out_and_then_quantities():
    results = noise(20, 40)
    steps, left_out = {}, {}
    for most in (1e9, 1600, 900, 600, 50, 10):
        explored = explorer.explore(results, most=int(most))
        steps[most] = [len(each["steps"]) for each in explored["curves"]]
        left_out[most] = explored["left_out"]
        for curve in explored["curves"]:
            assert (curve["steps"][0], curve["steps"][-1]) == (0, 39)
        lists = [
            each["values"] for k in ("quantities", "curves") for each in explored[k]
        ]
        assert sum(map(len, lists)) <= most
    assert steps[1e9] == [40, 40, 40] and left_out[1e9] == []
    assert steps[1600] == [22, 22, 22]
    assert left_out[1600] == ["18 of 40 records of the curves"]
    assert len(steps[900]) == 2 and "curves of c2 (no room)" in left_out[900]
    assert steps[600] == [18]
    assert steps[50] == [] and "delay (t test - t train) (no room)" not in left_out[50]
    assert "t test (no room)" in left_out[50]
    assert explorer.explore(results, most=10)["quantities"] == []


def unpacked(page):
    packed = re.search(r'id="data">(.*?)</script>', page)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_the_page_holds_its_data_and_needs_nothing_else(results):
    claim = dict(id="K9a", place="ours", statement="</script> <b>", expected="x > 1")
    claim |= dict(measured={"x": 1234.5, "y": None}, holds=True, less="")
    about = dict(name="</title><script>x()</script> $data", facts={"runs": "6"})
    explored = explorer.explore(results, claims=[claim], **about)
    page = explorer.page(explored)
    assert unpacked(page) == json.loads(json.dumps(explored))
    assert explored["claims"][0]["measured"] == ["x: 1,234", "y: never"]
    assert page.count("<script") == page.count("</script>") == 2
    assert "<title>grok_jax: explore &lt;/title&gt;" in page
    assert not re.search(r"\bsrc=|https?:", page.replace("http://www.w3.org", ""))
    assert "default-src 'none'" in page and page == explorer.page(explored)
