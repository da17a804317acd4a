"""Parts that do not ship: a page of a stranger's own, flax modules of both kinds."""

import shutil
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest
from flax import linen as nn
from flax import nnx

from grok_jax import launch, ntk
from grok_jax.engine import config, record, registry, runner, session
from grok_jax.engine.planning import Engine
from grok_jax.models.modules import as_model
from grok_jax.parts import part
from grok_jax.settings import SettingError

PAGE = Path(__file__).parent / "outside" / "sines.py"
X = jnp.linspace(-1, 1, 15).reshape(5, 3)


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The page in a folder of its own, from which it is launched."""
    shutil.copy(PAGE, tmp_path / "sines.py")
    monkeypatch.chdir(tmp_path)
    return "--config=sines.py"


@pytest.mark.optimised(loops=False)
def test_a_page_of_a_strangers_own_runs_is_killed_and_resumed(
    page, tmp_path, assert_identical
):
    often = ("segment_seconds", "checkpoint_seconds")
    more = [f"--config.engine.{name}=1e-9" for name in often]
    whole, cut = (record.Workdir(tmp_path / name) for name in ("whole", "cut"))
    assert launch.main(["launch", page, f"--workdir={whole.path}"]) == launch.DONE
    line = [page, f"--workdir={cut.path}"]
    processes.start_ending([*line, *more], 0.2, signal.SIGKILL).wait()
    assert not cut.results.exists() and any(cut.checkpoints.iterdir())
    assert launch.main(["launch", *line]) == launch.DONE
    a, b = (record.read_results(w.results) for w in (whole, cut))
    assert_identical(b.data_vars, a.data_vars)

    assert dict(a.sizes) == {"width": 2, "noise": 2, "seed": 2, "step": 9}
    assert a.attrs["groups"] == 2  # the noise is traced, the width is not
    assert {"largest_eigenvalue", "cka_test", "weight_norm_Dense_0.kernel"} < set(a)
    held = record.read_json(whole.config)["config"]
    assert held["model.name"] == "sines.py:Net"
    assert held["observe.sharpness.name"] == "sines.py:largest_eigenvalue"
    assert [claim["id"] for claim in record.read_json(whole.claims)] == ["S1"]


def test_its_parts_have_the_defaults_and_sentences_of_any_other(page, capsys):
    for override, said in (
        ("model.widht=3", "nearest: model.width"),
        ("task.noise=x", "task.noise must be of type float, not 'x'"),
        ("loss.delta=0.5", "Give --workdir"),
        ("model.name=sines.py:Nut", "There is no model 'sines.py:Nut'"),
        ("model.name=nowhere:Net", "There is no model 'nowhere:Net'"),
    ):
        assert launch.main(["launch", page, f"--config.{override}"]) == 2
        assert said in capsys.readouterr().err


def test_a_part_is_found_by_the_name_that_it_is_stored_by(page):
    module = registry.module_at("sines.py")
    name = registry.name_of("model", module.Net)
    assert registry.find("model", name) is module.Net
    assert registry.name_of("task", registry.TASKS["mnist"]) == "mnist"
    assert registry.find("model", "grok_jax.models.mlp:mlp") is registry.MODELS["mlp"]


def test_two_pages_of_one_name_are_two_and_one_that_was_changed_is_read_anew(
    tmp_path, monkeypatch
):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "page.py").write_text(f"WHERE = {folder!r}\n")
        monkeypatch.chdir(tmp_path / folder)
        assert folder == session.load_page("page.py")[0].WHERE
        assert folder == registry.module_at("page.py").WHERE
    (tmp_path / "b" / "page.py").write_text("WHERE = 'changed'\n")
    assert session.load_page("page.py")[0].WHERE == "changed"


def test_what_has_no_name_runs_without_a_workdir_and_is_a_sentence_with_one():
    def net(*, width: int = 3):
        return Net(width)

    resolved = config.resolve(config.make_config(dict(model=dict(name=net))))
    results = runner.Sweeper(resolved.plan, Engine("map"), say=lambda _: None).run()
    assert results.train_loss.notnull().all()
    with pytest.raises(SettingError, match="has no name by which a later launch"):
        _ = resolved.stored


# --- flax ----------------------------------------------------------------------------


class Net(nn.Module):
    width: int = 4

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.tanh(nn.Dense(self.width)(x)))[:, 0]


class Nnx(nnx.Module):
    def __init__(self, inputs: int, *, width: int = 4, rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Linear(inputs, width, rngs=rngs)])
        self.out = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.tanh(layer(x))
        return self.out(x)[:, 0]


class Averaging(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False)(x)[:, 0]


class Dropping(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(x)[:, 0]


MODULES = {"linen": part(Net, width=6), "nnx": part(Nnx, inputs=3, width=6)}


@pytest.mark.parametrize("kind", MODULES)
def test_a_module_is_a_model_of_its_parameters_and_x(kind):
    model = as_model(MODULES[kind])
    params = jax.jit(model.init)(jax.random.key(0), X[:1])
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 4 * 6 + 7
    f = model.apply(params, X)
    if kind == "linen":
        module = Net(6)
        expected = module.apply(module.init(jax.random.key(0), X[:1]), X)
        np.testing.assert_array_equal(f, expected)
    else:
        module = Nnx(3, width=6, rngs=nnx.Rngs(jax.random.key(0)))
        np.testing.assert_allclose(f, module(X), rtol=1e-6)
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)
    np.testing.assert_allclose(
        jax.jit(jax.vmap(model.apply, (0, None)))(both, X)[0], f, rtol=1e-5
    )
    rows = jax.jacrev(model.apply)(params, X)
    flat = [np.reshape(leaf, (5, -1)) for leaf in jax.tree.leaves(rows)]
    kernel = np.concatenate(flat, 1) @ np.concatenate(flat, 1).T
    own = ntk.empirical_ntk(model.apply, params, X)
    np.testing.assert_allclose(own, kernel, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["linen", "nnx"])
@pytest.mark.parametrize(
    "own",
    [
        dict(output_scale=4.0, centered=True),
        dict(linearized=True),
        dict(init_scale=0.5),
    ],
    ids=str,
)
def test_wrappers_and_the_fixed_norm_hold_on_modules(name, own):
    module = MODULES[name]
    layer = dict(
        task=dict(input_dim=3, train_size=8, test_size=5),
        model=dict(name=module.make, **module.settings, **own),
        optimizer=dict(name="adamw", norm="fixed"),
        observe=dict(norms={}, kernel_alignment={}),
        train=dict(steps=12, records=4),
        sweep=dict(seed=(0, 1)),
    )
    plan = config.resolve(config.make_config(layer)).plan
    results = runner.Sweeper(plan, Engine("map"), say=lambda _: None).run()
    norms = results.weight_norm
    np.testing.assert_allclose(norms, norms.isel(step=[0] * norms.step.size), rtol=1e-5)
    assert (results.train_loss.isel(step=-1) != results.train_loss.isel(step=0)).all()


@pytest.mark.parametrize(
    ("module", "state"), [(Averaging, "batch_stats"), (Dropping, "RngCount")]
)
def test_state_beside_parameters_is_a_sentence(module, state):
    with pytest.raises(SettingError, match=f"keeps state beside.*{state}"):
        as_model(part(module)).init(jax.random.key(0), X)


def test_what_makes_no_model_is_a_sentence():
    with pytest.raises(SettingError, match="makes a int; it must be a flax Module"):
        as_model(part(lambda: 3))


def test_a_setting_without_a_default_must_be_given():
    layer = dict(model=dict(name=Nnx))
    with pytest.raises(SettingError, match=r"model.inputs has no default"):
        config.resolve(config.make_config(layer))
