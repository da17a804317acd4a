"""The interactive page as people use it, in a real browser without a window.

Needs playwright and a Chromium (Debian's package will do); skipped without.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from grok_jax import report
from grok_jax.claims import Claim
from grok_jax.engine import workdirs

pytestmark = pytest.mark.slow

NAN, STEPS = np.nan, np.array([0, 1, 3, 10, 30, 100, 300, 1000])
CLAIMS = [
    Claim("K9a", "Fig. 9", "it <b>grows</b>", "x > 1", {"x": 1234.5}, True),
    Claim("K9b", "ours", "it never ends", "x < 1", [3.0], False, "the end"),
]
AXES = {
    "output_scale": [0.25, 0.5, 1.0, 2.0],
    "epsilon": [0.1, 0.2, 0.4, 0.8, 1.6],
    "width": [8, 16, 32],
    "seed": [100, 101, 102],
}


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install playwright"
    )
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("needs a Chromium: apt-get install chromium")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


def sweep(**axes):
    """Results over these axes: some runs never fit, some never generalise."""
    shape, dims = tuple(map(len, axes.values())), (*axes,)
    draw = np.random.default_rng(0)
    fall = draw.uniform(0.1, 2, (*shape, 1))
    train = np.exp(-fall * np.log1p(STEPS))
    t_train = draw.integers(1, 300, shape).astype("float32")
    t_test = t_train + draw.integers(1, 50_000, shape)
    t_test[draw.random(shape) < 0.3] = NAN
    t_train[draw.random(shape) < 0.1] = NAN
    curves = {
        "train_loss": train,
        "test_loss": train + draw.uniform(0, 0.3, (*shape, 1)),
        "train_accuracy": 1 - train / 2,
        "test_accuracy": 1 - train / 1.5,
        "weight_norm": draw.uniform(1, 20, (*shape, 1)) + np.log1p(STEPS),
    }
    return xr.Dataset(
        {
            **{
                name: ((*dims, "step"), v.astype("float32"))
                for name, v in curves.items()
            },
            "t_train": (dims, t_train),
            "t_test": (dims, t_test.astype("float32")),
            "diverged": (dims, np.zeros(shape, bool)),
        },
        {**axes, "step": STEPS},
        {"seconds": 3.0},
    )


@pytest.fixture
def opened(browser, tmp_path):
    """opened(results, width, theme) -> the page that a report made of a run folder; at
    the end no error was on its console and nothing but itself was asked for."""
    contexts, troubles, asked = [], [], []

    def open_(results, width=1400, theme="light"):
        folder = workdirs.Workdir(tmp_path / "k9")
        folder.create()
        about = dict(name="K9", description="delay", config={}, command="launch")
        about |= dict(versions={}, device="CPU", git_commit="8aa4", started="2026")
        about |= dict(precision={"matmul": "highest", "float": 32})
        folder.config.write_text(json.dumps(about))
        claims = [claim.as_json() | {"git_commit": "8aa4"} for claim in CLAIMS]
        folder.claims.write_text(json.dumps(claims))
        workdirs.write_results(folder.results, results)
        out = tmp_path / "out"
        assert report.main(["report", str(folder.path), f"--out={out}"]) == report.DONE
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((out / "index.html").as_uri())
        page.get_by_role("link", name="Explore the runs of K9").click()
        page.wait_for_selector("#main:not([hidden])")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert troubles == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)


def delays(results):
    """As on the page: a run that never came to it is later than any other."""
    return (results.t_test.fillna(np.inf) - results.t_train).fillna(np.inf)


def shown(page):
    """(i, j) -> the value of each place."""
    cells = page.locator("[role=gridcell]").evaluate_all(
        "cells => cells.map(c => [c.dataset.i, c.dataset.j, c.dataset.value])"
    )
    words = {"Infinity": np.inf, "NaN": NAN}
    return {(int(i), int(j)): float(words.get(v, v)) for i, j, v in cells}


def assert_shown(page, wanted):
    """`wanted` [x, y] or [x]."""
    found = shown(page)
    assert len(found) == wanted.size
    for (i, j), value in found.items():
        expected = wanted.values[(i, j)[: wanted.ndim]]
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def selected(page):
    cell = page.locator("[role=gridcell][aria-selected=true]")
    assert cell.count() == 1 and cell.get_attribute("tabindex") == "0"
    return int(cell.get_attribute("data-i")), int(cell.get_attribute("data-j"))


def choice(page, name):
    return page.get_by_role("combobox", name=name, exact=True)


def place(page, i, j):
    return page.locator(f"[role=gridcell][data-i='{i}'][data-j='{j}']")


def number(text):
    never = text in ("never", "never fitted")
    return np.inf if never else float(text.replace(",", ""))


def column(page, name):
    cells = page.locator(f"#runs td[data-quantity='{name}']").all_inner_texts()
    return [number(text) for text in cells]


def assert_runs(page, runs):
    """The table and the curves are those of these runs [seed]."""
    np.testing.assert_allclose(column(page, "t_train"), runs.t_train.fillna(np.inf))
    np.testing.assert_allclose(column(page, "t_test"), runs.t_test.fillna(np.inf))
    np.testing.assert_allclose(column(page, "delay"), delays(runs))
    for name in ("train_loss", "test_loss", "test_accuracy"):
        last = runs[name].isel(step=-1)
        np.testing.assert_allclose(column(page, f"last {name}"), last, rtol=1e-3)
        curves = page.locator(f"path[data-curve='{name}']")
        assert curves.count() == runs[name].seed.size
    assert page.locator("#panels figcaption").all_inner_texts() == [
        *("loss", "accuracy", "weight norm")
    ]


def test_a_map_shows_the_median_over_seeds_and_a_click_shows_the_runs(opened):
    results = sweep(**AXES)
    page = opened(results)
    median = delays(results).median("seed")
    assert np.isinf(median).any() and np.isfinite(median).any()
    at = median.sel(width=8).transpose("output_scale", "epsilon")
    assert_shown(page, at)
    never = {place for place, value in shown(page).items() if np.isinf(value)}
    hatched = page.locator("[role=gridcell].hatched")
    assert hatched.count() == len(never) == int(np.isinf(at).sum())
    for i, j in ((2, 3), (0, 4)):
        place(page, i, j).click()
        assert selected(page) == (i, j)
        assert_runs(page, results.isel(output_scale=i, epsilon=j, width=0))
    label = place(page, 2, 3).get_attribute("aria-label")
    assert label.startswith("output scale 1, epsilon 0.8, width 8: delay")


def test_other_axes_quantities_and_seeds_are_chosen(opened):
    results = sweep(**AXES)
    page = opened(results)
    page.get_by_role("slider", name="width").fill("2")  # a slider
    median = delays(results).median("seed")
    assert_shown(page, median.sel(width=32).transpose("output_scale", "epsilon"))
    place(page, 1, 1).click()
    assert_runs(page, results.isel(output_scale=1, epsilon=1, width=2))
    choice(page, "up").select_option(label="width")
    assert_shown(page, median.isel(epsilon=0).transpose("output_scale", "width"))
    choice(page, "across").select_option(label="width")  # they change places
    assert_shown(page, median.isel(epsilon=0).transpose("width", "output_scale"))
    page.get_by_role("slider", name="epsilon").fill("4")
    page.locator("#quantity").select_option("4")
    heading = page.locator("#over-title").inner_text()
    assert heading == "last value of test loss, median over seeds"
    last = results.test_loss.isel(step=-1, epsilon=4).transpose("width", ...)
    assert_shown(page, last.median("seed"))
    choice(page, "of the seeds").select_option("largest")
    assert_shown(page, last.max("seed"))
    choice(page, "of the seeds").select_option(label="seed 101")
    assert_shown(page, last.sel(seed=101))
    choice(page, "up").select_option(label="seed")
    of_seeds = results.test_loss.isel(step=-1, epsilon=4, output_scale=0)
    assert_shown(page, of_seeds.transpose("width", "seed"))
    place(page, 2, 1).click()
    assert len(column(page, "t_train")) == 1


def test_a_share_of_seeds_is_that_which_reached_it(opened):
    results = sweep(**AXES)
    page = opened(results)
    choice(page, "of the seeds").select_option("share")
    reached = np.isfinite(delays(results)).mean("seed").sel(width=8)
    assert_shown(page, reached.transpose("output_scale", "epsilon"))


def test_the_keyboard_reaches_every_place_and_the_focus_is_seen(opened):
    results = sweep(**AXES)
    page = opened(results)
    page.get_by_role("checkbox", name="log colours").focus()
    page.keyboard.press("Tab")
    assert selected(page) == (0, 0)

    def focused():
        of = "document.activeElement.dataset"
        return page.evaluate(f"[Number({of}.i), Number({of}.j)]")

    moves = {"ArrowRight": (1, 0), "ArrowUp": (1, 1), "End": (3, 1), "Home": (0, 1)}
    moves |= {"ArrowLeft": (0, 1), "Control+End": (3, 0), "ArrowDown": (3, 0)}
    for key, wanted in moves.items():
        page.keyboard.press(key)
        assert (selected(page), tuple(focused())) == (wanted, wanted), key
    assert_runs(page, results.isel(output_scale=3, epsilon=0, width=0))
    wide = page.locator(".cursor.inner").evaluate(
        "e => getComputedStyle(e).strokeWidth"
    )
    assert wide == "4px"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")  # past the link to the curves
    of = page.evaluate("document.activeElement.id")
    assert of == "highlight"
    look = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(look) == "solid"


def test_values_are_read_along_the_steps_for_all_seeds_or_one(opened):
    results = sweep(**AXES)
    page = opened(results)
    runs = results.isel(output_scale=0, epsilon=0, width=0)
    read = page.locator("[data-read=test_loss]")

    def value():
        return float(read.inner_text().split()[1].replace(",", ""))

    assert value() == pytest.approx(float(runs.test_loss[:, -1].median()), rel=2e-3)
    steps = page.get_by_role("slider", name="values at step")
    steps.focus()
    steps.press("Home")
    assert value() == pytest.approx(float(runs.test_loss[:, 0].median()), rel=2e-3)
    for _ in range(4):
        steps.press("ArrowRight")
    assert "30" in page.locator("#curve-controls output").inner_text()
    choice(page, "curves of").select_option(label="seed 102")
    assert value() == pytest.approx(float(runs.test_loss[2, 4]), rel=2e-3)
    assert page.locator("path.strong[data-curve=test_loss]").count() == 1
    assert page.locator("path.faded[data-curve=test_loss]").count() == 2


def test_claims_stand_beside_with_their_verdicts(opened):
    page = opened(sweep(**AXES))
    said = page.locator("#claims").inner_text()
    for words in ("1 of 2 hold.", "✓ holds · K9a · Fig. 9", "it <b>grows</b>"):
        assert words in said
    assert "✗ does not hold · K9b · ours" in said and "(Not tested: the end.)" in said
    page.get_by_text("Test and measurements of K9a").click()
    assert "x: 1,234" in page.locator("#claims").inner_text()
    page.get_by_role("link", name="Report").click()
    assert page.url.endswith("index.html#k9")


def test_one_axis_is_a_line(opened):
    results = sweep(train_size=[10, 100, 1000], seed=[0, 1, 2, 3])
    page = opened(results)
    assert page.locator("svg.line").count() == 1
    assert_shown(page, delays(results).median("seed"))
    assert page.locator("circle.dot").count() == 12
    place(page, 1, 0).click()
    assert_runs(page, results.isel(train_size=1))
    page.keyboard.press("ArrowRight")
    assert selected(page) == (2, 0)
    choice(page, "up").select_option(label="seed")
    assert page.locator("svg.line").count() == 0
    assert_shown(page, delays(results))


def test_arms_are_named(opened):
    results = sweep(arm=["scratch", "GrokTransfer"], seed=[0, 1])
    page = opened(results, width=400)
    assert page.locator("path.median").count() == 0  # nothing lies between them
    place(page, 1, 0).click()
    assert page.locator("#place").inner_text().startswith("arm GrokTransfer: delay")
    assert_runs(page, results.sel(arm="GrokTransfer"))


@pytest.mark.parametrize(
    ("axes", "places", "runs"),
    [
        (dict(seed=[0, 1, 2]), 3, 1),  # seeds alone are an axis
        (dict(width=[8], seed=[0, 1]), 1, 2),
        (dict(centered=[True, False], epsilon=[0.1], depth=[1, 2], seed=[7]), 4, 1),
        (dict(output_scale=[*range(1, 41)], epsilon=[*range(30)]), 1200, 1),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_any_grid_can_be_walked(opened, axes, places, runs):
    page = opened(sweep(**axes), width=400)
    assert page.locator("[role=gridcell]").count() == places
    page.locator("[role=gridcell]").first.click(force=True)
    for key in ("ArrowLeft", "ArrowDown", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    selected(page)
    assert len(column(page, "t_train")) == runs
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_single_run_is_shown(opened):
    results = sweep(seed=[0]).isel(seed=0, drop=True)
    page = opened(results)
    assert page.locator("[role=gridcell]").count() == 1
    assert page.locator("path[data-curve=test_loss]").count() == 1
    assert column(page, "t_train") == [float(results.t_train.fillna(np.inf))]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
def test_it_fits_the_screen_and_follows_the_theme(opened, width, theme):
    page = opened(sweep(**AXES), width, theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 27)"}[theme]
    for image in page.locator("[role=img], [role=grid], img").all():
        assert image.get_attribute("aria-label") or image.get_attribute("alt")
    unnamed = page.locator("select, input").evaluate_all(
        "all => all.filter(e => !e.labels.length).length"
    )
    assert unnamed == 0
    box = place(page, 0, 0).bounding_box()
    assert box["width"] >= 24 and box["height"] >= 24  # a finger finds it


def test_a_browser_that_cannot_unpack_the_data_is_told(browser, opened, tmp_path):
    page = opened(sweep(train_size=[10, 20], seed=[0]))
    path = Path(page.url.removeprefix("file://"))
    other = browser.new_page()
    other.add_init_script("delete globalThis.DecompressionStream")
    other.goto(path.as_uri())
    other.wait_for_selector("#trouble:not([hidden])")
    assert "needs a browser of 2023 or later" in other.inner_text("#trouble")
