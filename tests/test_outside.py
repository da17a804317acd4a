"""Parts that do not ship: a page of a stranger's own, flax modules of both kinds."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import processes
import pytest
from flax import linen as nn
from flax import nnx

import grok_jax
from grok_jax import experiment, launch, ntk, rng, tree
from grok_jax.engine import config, programs, registry, runner, session, workdirs
from grok_jax.engine.planning import Engine
from grok_jax.models.modules import as_model
from grok_jax.parts import part
from grok_jax.settings import SettingError
from grok_jax.types import Dataset, Split

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
    whole, cut = (workdirs.Workdir(tmp_path / name) for name in ("whole", "cut"))
    assert launch.main(["launch", page, f"--workdir={whole.path}"]) == launch.DONE
    line = [page, f"--workdir={cut.path}"]
    processes.start_ending([*line, *more], 0.2, signal.SIGKILL).wait()
    assert not cut.results.exists() and any(cut.checkpoints.iterdir())
    assert launch.main(["launch", *line]) == launch.DONE
    a, b = (workdirs.read_results(w.results) for w in (whole, cut))
    assert_identical(b.data_vars, a.data_vars)

    assert dict(a.sizes) == {"width": 2, "noise": 2, "seed": 2, "step": 9}
    assert a.attrs["groups"] == 2  # the noise is traced, the width is not
    assert {"largest_eigenvalue", "cka_test", "weight_norm_Dense_0.kernel"} < set(a)
    held = workdirs.read_json(whole.config)["config"]
    assert held["model.name"] == "sines.py:Net"
    assert held["observe.sharpness.name"] == "sines.py:largest_eigenvalue"
    assert [claim["id"] for claim in workdirs.read_json(whole.claims)] == ["S1"]


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


class Typed(nn.Module):
    """A model whose settings are callables and a dtype, as those of flax are."""

    width: int = 3
    activation: Callable = nn.relu
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(self.activation(nn.Dense(self.width)(x)))[:, 0]


def test_a_page_with_callables_and_a_dtype_is_read_again_and_extended(tmp_path):
    def run(*functions):
        swept = dict(activation=functions, rate_drops=((3,), (2, 4)))
        layer = dict(model=dict(name=Typed), optimizer=dict(name="adamw"), sweep=swept)
        layer |= dict(task=dict(input_dim=4), train=dict(steps=5, records=2))
        return grok_jax.run(layer, tmp_path / "run", say=said.append)

    said = []
    first = run(nn.relu)
    assert run(nn.relu).equals(first)
    more = run(nn.relu, nn.tanh)
    assert more.activation.values.tolist() == ["relu", "tanh"]
    assert more.rate_drops.values.tolist() == ["(3,)", "(2, 4)"]
    assert more.train_loss.sel(activation="relu").equals(first.train_loss[0])
    assert grok_jax.params(tmp_path / "run", activation=nn.tanh, rate_drops=(3,))


def test_a_lambda_in_a_setting_is_a_sentence_with_a_workdir():
    model = dict(name=Typed, activation=lambda x: x)
    resolved = config.resolve(config.make_config(dict(model=model)))
    said = "The model.activation .*<lambda> has no name by which a later launch"
    with pytest.raises(SettingError, match=said):
        _ = resolved.stored
    resolved = config.resolve(config.make_config(dict(model=dict(name=Typed))))
    assert resolved.stored["model.dtype"] == "jax.numpy:float32"


def noisy(*, rate: float = 0.05):
    return optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(3)), optax.sgd(rate))


def test_an_optimiser_with_random_keys_is_saved_and_extended(
    tmp_path, assert_identical
):
    def run(steps, *workdir):
        layer = dict(task=dict(input_dim=4), sweep=dict(seed=(0, 1)))
        layer |= dict(model=dict(name=Typed), optimizer=dict(name=noisy))
        layer |= dict(train=dict(steps=steps, records=steps, spacing="linear"))
        return grok_jax.run(layer, *workdir, say=lambda _: None)

    run(3, tmp_path / "run")
    assert_identical(run(6, tmp_path / "run").data_vars, run(6).data_vars)


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


def test_sizes_of_a_module_are_those_of_the_data():
    class Sized(Nnx):
        def __init__(self, inputs: int = 0, *, width: int = 4, rngs: nnx.Rngs):
            super().__init__(inputs, width=width, rngs=rngs)

    layer = dict(task=dict(input_dim=3), model=dict(name=Sized))
    own = config.resolve(config.make_config(layer)).plan.experiment
    params = experiment.make(own).init(experiment.make_dataset(own)).params
    assert params["layers"][0]["kernel"].shape == (3, 4)


# --- wrappers, gradients, stop rules -------------------------------------------------


def doubled(apply, anchor, *, factor: float = 2.0):
    return lambda params, x: factor * (apply(params, x) - apply(anchor, x))


def halved(*, share: float = 0.5):
    return optax.scale(share)


def fitted(record, *, share: float = 0.5):
    return share - record["train_loss"]


def run_in_memory(*layers):
    plan = config.resolve(config.make_config(SMALL, *layers)).plan
    return runner.Sweeper(plan, Engine("map"), say=lambda _: None).run()


SMALL = dict(
    task=dict(input_dim=3, train_size=8, test_size=5),
    model=dict(width=6),
    optimizer=dict(learning_rate=0.1),
    observe=dict(kernel_alignment={}),
    train=dict(steps=12, records=4, spacing="linear"),
)


def test_a_wrapper_is_part_of_the_network_that_trains_and_is_measured():
    """Twice the centred network is what output scale and centring make of it."""
    own = run_in_memory(dict(wrap=dict(twice=dict(name=doubled))))
    other = run_in_memory(dict(model=dict(output_scale=2.0, centered=True)))
    for name in ("train_loss", "test_loss", "cka_test"):
        np.testing.assert_allclose(own[name], other[name], rtol=1e-4)
    swept = run_in_memory(
        dict(wrap=dict(twice=dict(name=doubled)), sweep=dict(factor=(2.0, 3.0)))
    )
    np.testing.assert_allclose(swept.train_loss[0], own.train_loss, rtol=1e-5)


def test_wrappers_and_gradients_compose_in_the_order_of_the_page():
    twice = dict(first=dict(name=doubled), second=dict(name=doubled, factor=1.5))
    own = run_in_memory(dict(wrap=twice))
    other = run_in_memory(dict(model=dict(output_scale=3.0, centered=True)))
    np.testing.assert_allclose(own.train_loss, other.train_loss, rtol=1e-4)
    halves = dict(b=dict(name=halved), a=dict(name=halved))
    own = run_in_memory(dict(gradient=halves))
    other = run_in_memory(dict(optimizer=dict(learning_rate=0.025)))
    np.testing.assert_allclose(own.train_loss, other.train_loss, rtol=1e-5)
    plan = config.resolve(config.make_config(SMALL, dict(gradient=halves))).plan
    assert [*plan.groups()[0].experiment.gradient] == ["b", "a"]


def test_a_rule_of_ones_own_ends_a_run():
    free = run_in_memory()
    threshold = float(free.train_loss[2])
    rule = dict(stop=dict(name=fitted, share=1.001 * threshold))
    own = run_in_memory(rule)
    assert float(own.stop_met_at) == free.step[2]
    assert own.train_loss.isnull().values.tolist() == [False] * 3 + [True] * 2


# --- GrokTransfer --------------------------------------------------------------------


class Reader(nn.Module):
    """Sums of embeddings, then two layers."""

    features: int = 6
    vocabulary: int = 0
    outputs: int = 0

    @nn.compact
    def __call__(self, x):
        h = nn.Embed(self.vocabulary, self.features)(x).sum(axis=1)
        return nn.Dense(self.outputs)(nn.relu(nn.Dense(8)(h)))


TOKENS = dict(
    task=dict(name="modular_tokens", modulus=5, train_fraction=0.6, equals=False),
    model=dict(name=Reader),
    loss=dict(name="classification"),
    optimizer=dict(name="adamw", learning_rate=0.01),
    train=dict(steps=8, records=2),
)


@pytest.mark.parametrize(
    "form", ["product", pytest.param("copy", marks=pytest.mark.slow)]
)
def test_an_embedding_moves_into_a_module_and_out_of_one(form):
    """Leaf by leaf, from a shipped network into linen and from linen into linen."""
    small = 3 if form == "product" else 6
    for weak, leaf in (
        (dict(name="fnn", embedding=small, width=4), "embed"),
        (dict(name=Reader, features=small), "Embed_0.embedding"),
    ):
        moved = dict(model=weak, leaf=leaf, into="Embed_0.embedding", steps=30)
        layer = dict(transfer=dict(moved, form=form), sweep=dict(seed=(0, 1)))
        plan = config.resolve(config.make_config(TOKENS, layer)).plan
        own = plan.experiment
        data = experiment.make_dataset(own)
        state = experiment.make(own).init(data)
        keys = experiment.make_keys(own)
        key = rng.named_key(keys.init, "transfer")
        trained = experiment.make(
            experiment.weak_experiment(own), keys._replace(init=key)
        )
        alone = trained.advance(trained.init(data), data, 0, 30)
        table = tree.flat_names(alone.params)[leaf]
        grafted = state.params["Embed_0"]["embedding"]
        first = grafted.a if form == "product" else grafted
        np.testing.assert_allclose(first, table, rtol=1e-4, atol=1e-5)
        results = runner.Sweeper(plan, Engine("map"), say=lambda _: None).run()
        assert results.train_loss.notnull().all()
        assert (results.weak_steps_taken == 30).all()


def test_a_transfer_into_a_leaf_that_is_not_there_is_a_sentence():
    layer = dict(transfer=dict(into="embed", leaf="embed"))
    plan = config.resolve(config.make_config(TOKENS, layer)).plan
    with pytest.raises(SettingError, match=r"no parameter of the target 'embed'; near"):
        programs.check_data(plan)


class Drawing(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5, deterministic=False)(x)[:, 0]


@pytest.mark.parametrize(
    ("section", "make", "said"),
    [
        ("model", Net(width=4), "The model is an instance of Net; its name must be"),
        ("model", Drawing, "Drawing draws random numbers when it is called; a model"),
        ("optimizer", optax.sgd(0.1), "The optimizer is of type GradientTransf"),
        ("task", lambda keys: (1, 2), "task.name <lambda> must return a grok_jax.typ"),
        ("loss", lambda f, y: f - y, "loss.name <lambda> cannot be called (missing a"),
        ("loss", lambda: abs, "loss.name <lambda> must return a grok_jax.losses.Loss"),
    ],
)
def test_what_is_given_for_a_part_and_is_none_is_a_sentence(section, make, said):
    with pytest.raises(SettingError) as error:
        grok_jax.run({section: dict(name=make), "train": dict(steps=2)})
    assert str(error.value).startswith(said)


def test_examples_that_are_not_complete_are_a_sentence():
    def mine(keys):
        split = Split(jnp.ones((5, 2)), jnp.ones(4), jnp.ones(5))
        return Dataset(split, split, {})

    page = dict(
        task=dict(name=mine), model=dict(name="mlp", width=3), train=dict(steps=2)
    )
    with pytest.raises(SettingError, match="has 5 train inputs, 4 targets and 5 w"):
        grok_jax.run(page)


def test_an_observable_that_returns_a_number_is_a_sentence():
    def moved(view):
        return 1.0

    page = dict(observe=dict(moved=dict(name=moved)), train=dict(steps=2))
    with pytest.raises(SettingError, match=r"observe.moved .* must return a dict of"):
        grok_jax.run(page)
