"""What holds of every registered part, with and without jit: one table for all."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized

from grok_jax import experiment, rng
from grok_jax.engine import config, registry
from grok_jax.models.modules import as_model
from grok_jax.network import sizes_of, with_sizes
from grok_jax.parts import Part, part
from grok_jax.settings import SettingError, schema
from grok_jax.tasks.reading import DataError

SMALL_TASKS = {
    "polynomial": dict(input_dim=6, train_size=9, test_size=7),
    "eigenlabels": dict(input_dim=6, train_size=9, test_size=7),
    "modular": dict(modulus=5),
    "teacher_student": dict(train_size=9, test_size=7, outputs=3),
    "toy_addition": dict(symbols=4, train_size=6, target_dim=3),
    "modular_tokens": dict(modulus=5),
    "modular_embedded": dict(modulus=5, frequencies=1),
    "sparse_parity": dict(bits=6, support=2, train_size=9, test_size=7),
    "xor_clusters": dict(dimension=8, train_size=9, test_size=7),
    "mnist": dict(train_size=20, test_size=20),
    "imdb": dict(train_size=20, test_size=20, vocabulary=30, length=6),
    "qm9": dict(molecules=60, train_size=20, test_size=20),
}
LEARNS_FROM = {  # model -> (its settings, a task that it takes)
    "committee": (dict(width=5), "polynomial"),
    "committee_dynamics": (dict(width=5), "polynomial"),
    "committee_flow": (dict(width=5), "polynomial"),
    "quadratic": (dict(width=5), "modular"),
    "mlp": (dict(width=5), "teacher_student"),
    "fnn": (dict(width=5, embedding=4), "modular_tokens"),
    "cluster_net": (dict(width=5), "xor_clusters"),
    "lstm": (dict(embedding=3, hidden=4), "imdb"),
    "gcn": (dict(first_channels=3, second_channels=3, edge_hidden=3, dense=3), "qm9"),
    "transformer": (
        dict(width=8, heads=2, head_width=4, mlp_width=8),
        "modular_tokens",
    ),
}


def data_of(name):
    """(the task, its data); skipped where its files are not here."""
    own = part(registry.TASKS[name], **SMALL_TASKS[name])
    try:
        load = registry.TASKS[name].load
        known = schema(load) if load else ()
        files = {"files": load(**{n: own[n] for n in known})} if load else {}
    except (DataError, SettingError) as error:
        pytest.skip(str(error))
    return own, lambda keys: own(keys, **files)


def table(registered, given):
    assert set(given) == set(registered), "give the new part its line"
    return [(name, name) for name in registered]


def close(name):
    """Tolerances of two compilations; labels that are float32 eigenvectors, of size 1,
    round by the processor."""
    return dict(rtol=1e-5, atol=1e-5 if name == "eigenlabels" else 1e-6)


class TasksTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.named_parameters(*table(registry.TASKS, SMALL_TASKS))
    def test_examples_have_weights_and_their_sizes_are_told(self, name):
        own, make = data_of(name)
        data = self.variant(make)(rng.run_keys(3))
        for split in (data.train, data.test):
            x, y, weight = split
            chex.assert_equal_shape_prefix([x, y, weight], 1)
            chex.assert_rank(weight, 1)
            assert bool((weight >= 0).all()) and float(weight.sum()) > 0
        chex.assert_tree_all_finite(data)
        chex.assert_trees_all_close(data, make(rng.run_keys(3)), **close(name))
        sizes = sizes_of(own)
        x, y, _ = data.train
        if jnp.issubdtype(x.dtype, jnp.floating) and "inputs" in sizes:
            assert sizes["inputs"] == x.shape[-1] and not sizes["vocabulary"]
        if sizes.get("vocabulary"):
            assert int(x.max()) <= sizes["vocabulary"]
        if jnp.issubdtype(y.dtype, jnp.integer):
            assert int(data.test.y.max()) < sizes["outputs"]
        elif y.ndim > 1:
            assert sizes["outputs"] == y.shape[1]

    @parameterized.named_parameters(*table(registry.TASKS, SMALL_TASKS))
    def test_another_seed_is_another_draw_and_seeds_map(self, name):
        _, make = data_of(name)
        keys = jax.vmap(rng.run_keys)(jnp.arange(2))
        both = jax.jit(jax.vmap(make))(keys)
        alone = jax.jit(make)(rng.run_keys(0))
        one, two = (jax.tree.map(lambda leaf, i=i: leaf[i], both) for i in (0, 1))
        with pytest.raises(AssertionError):
            chex.assert_trees_all_equal(one[:2], two[:2])
        chex.assert_trees_all_close(one, alone, rtol=1e-5, atol=1e-6)


class ModelsTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.named_parameters(*table(registry.MODELS, LEARNS_FROM))
    def test_a_model_is_a_pure_function_that_maps_and_differentiates(self, name):
        settings, task = LEARNS_FROM[name]
        own, make = data_of(task)
        x = make(rng.run_keys(0)).train.x[:4]
        model = as_model(with_sizes(part(registry.MODELS[name], **settings), own))
        keys = jax.random.split(jax.random.key(0), 2)
        params = [self.variant(model.init)(key, x[:1]) for key in keys]
        f = self.variant(model.apply)(params[0], x)
        assert f.shape[0] == 4 and f.ndim <= 2
        chex.assert_tree_all_finite((f, params[0]))

        @jax.jit
        def transformed(keys, first, x):
            both = jax.vmap(model.init, (0, None))(keys, x[:1])
            mapped = jax.vmap(model.apply, (0, None))(both, x)
            rows = jax.vmap(lambda one: model.apply(first, one[None])[0])(x)
            gradient = jax.grad(lambda p: jnp.sum(model.apply(p, x) ** 2))(first)
            return both, mapped, rows, gradient

        both, mapped, rows, gradient = transformed(keys, params[0], x)
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
        chex.assert_trees_all_close(both, stacked, rtol=1e-4, atol=1e-5)
        chex.assert_trees_all_close(mapped[0], f, rtol=1e-3, atol=1e-4)
        chex.assert_trees_all_close(rows, f, rtol=1e-3, atol=1e-4)  # no mixing
        chex.assert_trees_all_equal_shapes_and_dtypes(gradient, params[0])
        chex.assert_tree_all_finite(gradient)


TARGETS = {
    "squared_error": (jnp.ones((3, 2)), jnp.zeros((3, 2))),
    "classification": (jnp.eye(3) * 50 - 20, jnp.array([0, 2, 1])),
    "binary_cross_entropy": (jnp.array([-50.0, 0.1, 50.0]), jnp.array([0.0, 1.0, 0.0])),
    "exponential": (jnp.array([-2.0, 0.0, 2.0]), jnp.array([1.0, -1.0, 1.0])),
}


class LossesTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.named_parameters(*table(registry.LOSSES, TARGETS))
    def test_a_loss_is_a_number_of_each_example_by_itself(self, name):
        loss, (f, y) = registry.LOSSES[name](), TARGETS[name]
        for of in loss:
            found = self.variant(of)(f, y)
            chex.assert_shape(found, (3,))
            chex.assert_type(found, f.dtype)
            alone = jnp.concatenate([of(f[i : i + 1], y[i : i + 1]) for i in range(3)])
            chex.assert_trees_all_close(found, alone, rtol=1e-6)
        gradient = jax.grad(lambda f: jnp.sum(loss.value(f, y)))(f)
        chex.assert_tree_all_finite(gradient)
        better = loss.value(f - 1e-3 * gradient, y)
        assert float(better.sum()) < float(loss.value(f, y).sum())


OPTIMIZERS = {
    "gradient_descent": dict(learning_rate=0.2),
    "adamw": dict(learning_rate=0.2),
}
EXTRAS = (
    {},
    dict(clip_norm=1.0),
    dict(warmup_steps=5),
    dict(rate_drops=(40, 60), rate_factor=0.2),
)


class OptimizersTest(chex.TestCase):
    @parameterized.product(
        name=tuple(registry.OPTIMIZERS),
        extra=EXTRAS,
        gradient=("none", *registry.GRADIENTS),
    )
    def test_it_descends_a_parabola_and_is_traced_once(self, name, extra, gradient):
        chex.clear_trace_counter()
        filters = registry.GRADIENTS.get(gradient, optax.identity)
        own = dict(window=2) if gradient == "grokfast_ma" else {}
        tx = optax.chain(
            filters(**own), registry.OPTIMIZERS[name](**OPTIMIZERS[name], **extra)
        )
        goal = jnp.array([0.3, -0.4, 0.8])
        params = {"w": jnp.array([1.0, 2.0, -3.0]), "b": jnp.ones(2)}

        def loss(params):
            return (
                jnp.sum((params["w"] - goal) ** 2) / 4 + jnp.sum(params["b"] ** 2) / 8
            )

        @jax.jit
        @chex.assert_max_traces(n=1)
        def step(params, state):
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        state, start = tx.init(params), loss(params)
        for _ in range(80):
            new, state = step(params, state)
            chex.assert_trees_all_equal_shapes_and_dtypes(new, params)
            params = new
        chex.assert_tree_all_finite((params, state))
        if gradient != "orthogonal":  # turning alone does not reach a goal
            assert float(loss(params) / start) < 0.7

    def test_a_rate_that_drops_is_that_rate(self):
        for name in registry.OPTIMIZERS:
            sizes = []
            tx = registry.OPTIMIZERS[name](
                learning_rate=1.0, rate_drops=(2, 4), rate_factor=0.2, warmup_steps=2
            )
            state = tx.init(jnp.ones(1))
            for _ in range(6):
                updates, state = tx.update(jnp.ones(1), state, jnp.ones(1))
                sizes.append(-float(updates[0]))
            np.testing.assert_allclose(
                sizes, [0.5, 1, 0.2, 0.2, 0.04, 0.04], rtol=1e-4, err_msg=name
            )

    def test_a_clipped_gradient_has_that_norm(self):
        tx = registry.OPTIMIZERS["gradient_descent"](learning_rate=1.0, clip_norm=0.5)
        gradient = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
        updates, _ = tx.update(gradient, tx.init(gradient), gradient)
        assert float(optax.tree.norm(updates)) == pytest.approx(0.5)


SEEN = {  # observable -> (its settings, a model that it may be taken of)
    "norms": ({}, "mlp"),
    "kernel_alignment": (dict(points=4), "mlp"),
    "difficulty": ({}, "committee"),
    "population_risk": ({}, "committee"),
    "kernel_snapshots": (dict(points=4), "mlp"),
    "embedding_fourier": (dict(top=1), "fnn"),
    "parameter_snapshots": ({}, "fnn"),
    "softmax_collapse": ({}, "fnn"),
    "xor_norms": ({}, "cluster_net"),
    "xor_embedding": ({}, "cluster_net"),
    "xor_target": (dict(target_width=16, steps=3), "cluster_net"),
    "xor_one_step": (dict(target_width=16, draws=2), "cluster_net"),
}


class ObservablesTest(chex.TestCase):
    @parameterized.named_parameters(*table(registry.OBSERVABLES, SEEN))
    def test_what_it_records_is_finite_and_the_same_under_vmap(self, name):
        settings, model = SEEN[name]
        own, task = LEARNS_FROM[model]
        is_tokens = task == "modular_tokens"
        layer = dict(
            task=dict(name=task, **SMALL_TASKS[task]),
            model=dict(name=model, **own),
            loss=dict(name="classification" if is_tokens else "squared_error"),
            observe={name: settings},
        )
        plan = config.resolve(config.make_config(layer)).plan
        run = experiment.make(plan.experiment)
        data = experiment.make_dataset(plan.experiment)

        def record(state):
            return run.measure(state, data, 0, 0)[1]

        state = jax.jit(run.init)(data)
        alone = jax.jit(record)(state)
        chex.assert_tree_all_finite(alone)
        both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
        mapped = jax.tree.map(lambda leaf: leaf[1], jax.jit(jax.vmap(record))(both))
        chex.assert_trees_all_close(mapped, alone, rtol=1e-3, atol=1e-4)


def test_a_part_is_a_tree_of_its_traced_settings():
    for kind in registry.REGISTRIES.values():
        for make in kind.values():
            leaves = schema(make)
            values = {
                n: leaf.default for n, leaf in leaves.items() if not leaf.required
            }
            own = Part(make, values)
            traced = [value for n, value in values.items() if not leaves[n].static]
            assert jax.tree.leaves(own) == traced
            again = jax.tree.unflatten(jax.tree.structure(own), traced)
            assert again.settings == own.settings
