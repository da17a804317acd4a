"""GrokTransfer: the graft against what it must be, the two stages against two runs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from grok_jax import experiment, grok_transfer, rng, train, transfer, tree
from grok_jax.engine import config, planning, programs, runner
from grok_jax.engine.grid import Axis, Grid
from grok_jax.models import wrappers
from grok_jax.models.fnn import fnn
from grok_jax.tree import Factors

KEY = jax.random.key(0)
MAP = planning.Engine(mode="map")
TWO_STAGES = dict(
    task=dict(name="modular_tokens", modulus=5, train_fraction=0.6, equals=False),
    model=dict(name="fnn", embedding=6, width=8),
    loss=dict(name="classification"),
    optimizer=dict(name="adamw", learning_rate=0.01),
    transfer=dict(
        model=dict(embedding=3, width=4, layers=2),
        optimizer=dict(learning_rate=5e-3, weight_decay=0.1),
        steps=40,
        every=7,
    ),
    train=dict(steps=20, records=4),
)


def experiment_of(*layers):
    return config.resolve(config.make_config(TWO_STAGES, *layers)).plan.experiment


def begin(*layers):
    """(experiment, data, state at step 0) of a run."""
    own = experiment_of(*layers)
    data = experiment.make_dataset(own)
    return own, data, jax.jit(experiment.make(own).init)(data)


def sweep(*layers):
    plan = config.resolve(config.make_config(TWO_STAGES, *layers)).plan
    return runner.Sweeper(plan, MAP, say=lambda _: None).run()


# --- the parts -----------------------------------------------------------------------


def test_the_low_rank_embedding_begins_with_the_weak_table_and_spans_no_more():
    table = jax.random.normal(KEY, (9, 3))
    factors = transfer.low_rank_embedding(KEY, table, 7)
    np.testing.assert_array_equal(factors.a, table)
    assert factors.b.shape == (3, 7)
    assert float(jnp.abs(factors.b).max()) <= 3**-0.5
    product = tree.product(factors)
    np.testing.assert_allclose(product, table @ factors.b, rtol=1e-6)
    assert np.linalg.matrix_rank(np.asarray(product), tol=1e-5) == 3


def test_merging_by_hand_leaves_the_function_as_it_was():
    model = fnn(vocabulary=5, embedding=6, width=8, outputs=5)
    x = jnp.array([[0, 1], [4, 2]])
    params = model.init(KEY, x)
    factors = transfer.low_rank_embedding(KEY, jnp.ones((5, 2)), 6)
    low_rank = transfer.graft(params, {"embed": factors})
    merged = transfer.merge(low_rank)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    factored = wrappers.factored(model.apply)
    np.testing.assert_allclose(
        factored(low_rank, x), model.apply(merged, x), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(factored(params, x), model.apply(params, x))


def test_a_graft_changes_what_it_names_and_nothing_else():
    params = {"embed": jnp.zeros((3, 2)), "layer": {"w": jnp.ones(4)}}
    grown = transfer.graft(params, {"layer.w": jnp.arange(4.0)})
    np.testing.assert_array_equal(grown["layer"]["w"], jnp.arange(4.0))
    np.testing.assert_array_equal(grown["embed"], params["embed"])
    np.testing.assert_array_equal(params["layer"]["w"], jnp.ones(4))


def test_a_graft_that_does_not_fit_is_refused_by_name():
    params = {"embed": jnp.zeros((3, 2)), "layer": {"w": jnp.ones(4)}}
    with pytest.raises(
        ValueError, match=r"no parameter embde to graft on; nearest: em"
    ):
        transfer.graft(params, {"embde": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"embed has shape \(3, 5\), not \(3, 2\)"):
        transfer.graft(params, {"embed": Factors(jnp.ones((3, 1)), jnp.ones((1, 5)))})


# --- merging while it trains ---------------------------------------------------------


def course(tx, params, gradient, steps):
    """The embedding after each of `steps` steps."""

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, tx.init(params)), None, steps)[1]


def test_after_the_merge_the_table_descends_as_a_table():
    key_a, key_b, key_t = jax.random.split(KEY, 3)
    goal = jax.random.normal(key_t, (4, 3))
    factors = Factors(
        jax.random.normal(key_a, (4, 2)), jax.random.normal(key_b, (2, 3))
    )

    def gradient(params):
        loss = lambda p: jnp.sum((tree.product(p["embed"]) - goal) ** 2)  # noqa: E731
        return jax.grad(loss)(params)

    rate, at = 0.05, 3
    seen = course(
        transfer.merging(optax.sgd(rate), at),
        transfer.with_room({"embed": factors}),
        gradient,
        6,
    )["embed"]
    free = course(optax.sgd(rate), {"embed": factors}, gradient, at)["embed"]
    np.testing.assert_allclose(seen.a[:at], free.a, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(seen.rest[:at], 0)
    table = free.a[-1] @ free.b[-1]
    for step in range(at, 6):
        table = table - rate * 2 * (table - goal)
        np.testing.assert_allclose(seen.rest[step], table, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(seen.a[at:], 0)
    np.testing.assert_array_equal(seen.b[at:], 0)


def test_the_merging_step_decays_the_table():
    factors = Factors(jnp.full((4, 2), 2.0), jnp.ones((2, 3)))
    tx = transfer.merging(optax.adamw(0.1, weight_decay=0.5), 0)
    params = transfer.with_room({"embed": factors})
    zero = jax.tree.map(jnp.zeros_like, params)
    seen = course(tx, params, lambda p: zero, 2)["embed"].rest
    for step, table in enumerate(seen):
        np.testing.assert_allclose(table, 4.0 * 0.95 ** (step + 1), rtol=1e-6)


def test_with_adamw_the_factors_rest_after_the_merge():
    factors = Factors(jnp.ones((4, 2)), jnp.ones((2, 3)))
    tx = transfer.merging(optax.adamw(0.1, weight_decay=0.5), 2)
    params = transfer.with_room({"embed": factors, "w": jnp.ones(2)})
    seen = course(tx, params, lambda p: jax.tree.map(jnp.ones_like, p), 8)
    np.testing.assert_array_equal(seen["embed"].a[2:], 0)
    np.testing.assert_array_equal(seen["embed"].b[2:], 0)
    assert (np.abs(np.diff(seen["embed"].rest[2:], axis=0)) > 1e-3).all()
    plain = course(
        optax.adamw(0.1, weight_decay=0.5),
        {"w": jnp.ones(2)},
        lambda p: p | {"w": jnp.ones(2)},
        8,
    )
    np.testing.assert_allclose(seen["w"], plain["w"], rtol=1e-6)


# --- two stages as one function ------------------------------------------------------


def test_the_weak_network_is_the_run_that_its_settings_alone_make():
    target, data, state = begin()
    keys = experiment.make_keys(target)
    own = keys._replace(init=rng.named_key(keys.init, "transfer"))
    weak = experiment.make(experiment.weak_experiment(target), own)
    alone = jax.jit(lambda data: weak.advance(weak.init(data), data, 0, 40))(data)
    np.testing.assert_allclose(
        state.params["embed"].a, alone.params["embed"], rtol=1e-4, atol=1e-5
    )
    assert state.notes["weak_steps_taken"] == 40
    fresh = experiment.make(target._replace(transfer=None)).init(data).params
    np.testing.assert_array_equal(state.params["layer_1"], fresh["layer_1"])


def test_of_several_weak_networks_the_one_of_lowest_train_loss_is_taken():
    target, data, state = begin(dict(transfer=dict(candidates=3)))
    keys = experiment.make_keys(target)
    key = rng.named_key(keys.init, "transfer")
    alone = []
    for own in jax.random.split(key, 3):
        network = experiment.weak_experiment(target)
        weak = experiment.make(network, keys._replace(init=own))
        alone.append(train.train_until(weak, data, steps=40, accuracy=2.0, every=7))
    losses = [float(weak.record["train_loss"]) for weak in alone]
    assert len(set(losses)) == 3
    best = alone[int(np.argmin(losses))]
    np.testing.assert_allclose(
        state.params["embed"].a, best.params["embed"], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(state.notes["weak_train_loss"], min(losses), rtol=1e-4)
    assert state.notes["weak_steps_taken"] == 3 * 40


def test_a_weak_network_that_diverged_is_not_the_one_taken():
    loss = jnp.array([2.0, jnp.nan, 1.0])
    weak = train.Trained(
        {"w": jnp.arange(3.0)}, jnp.array([5, 3, 5]), {"train_loss": loss}
    )
    chosen = grok_transfer._lowest_loss(weak)
    assert float(chosen.params["w"]) == 2.0 and float(chosen.record["train_loss"]) == 1
    assert int(chosen.steps) == 13


def test_a_weak_network_stops_at_the_accuracy_asked_for():
    _, _, state = begin(dict(transfer=dict(steps=3000, accuracy=0.2)))
    assert state.notes["weak_test_accuracy"] >= 0.2
    assert (
        state.notes["weak_steps_taken"] < 3000
        and state.notes["weak_steps_taken"] % 7 == 0
    )


def test_a_random_embedding_is_what_the_weak_network_had_before_it_trained():
    _, _, state = begin(dict(transfer=dict(source="random")))
    assert state.notes["weak_steps_taken"] == 0
    _, _, trained = begin(dict(transfer=dict(steps=0)))
    np.testing.assert_array_equal(state.params["embed"].a, trained.params["embed"].a)


def test_a_copied_embedding_is_the_weak_one_itself():
    wide = dict(transfer=dict(form="copy", model=dict(embedding=6)))
    target, data, state = begin(wide)
    _, _, product = begin(dict(transfer=dict(model=dict(embedding=6))))
    np.testing.assert_array_equal(state.params["embed"], product.params["embed"].a)
    assert experiment.make(target).init(data).params["embed"].shape == (5, 6)


def test_a_table_is_the_product_at_the_norm_of_what_it_replaces():
    target, data, state = begin(dict(transfer=dict(form="table")))
    own = experiment.make(target).init(data).params["embed"]
    _, _, product = begin()
    whole, table = tree.product(product.params["embed"]), state.params["embed"]
    np.testing.assert_allclose(jnp.linalg.norm(table), jnp.linalg.norm(own), rtol=1e-6)
    np.testing.assert_allclose(
        table / jnp.linalg.norm(table), whole / jnp.linalg.norm(whole), rtol=1e-5
    )


def test_init_scale_scales_b_and_not_what_was_learned():
    _, _, one = begin()
    _, _, half = begin(dict(model=dict(init_scale=0.5)))
    np.testing.assert_array_equal(half.params["embed"].a, one.params["embed"].a)
    np.testing.assert_allclose(half.params["embed"].b, 0.5 * one.params["embed"].b)


@pytest.mark.optimised(always=False)
def test_weak_epochs_and_rates_are_swept_in_one_program(compilations):
    axes = dict(sweep={"transfer.steps": (0, 5, 40), "seed": (0, 1)})
    with compilations() as names:
        results = sweep(axes)
    assert names.count("on_device") <= 2  # the start and the segments
    np.testing.assert_array_equal(
        results.weak_steps_taken.isel(step=-1, seed=0), [0.0, 5.0, 40.0]
    )
    alone = sweep({"transfer": dict(steps=5), "sweep": dict(seed=(1,))})
    cell = results.isel(steps=1, seed=1)
    for name in ("train_loss", "test_loss", "weak_test_loss"):
        np.testing.assert_array_equal(cell[name], alone[name].isel(seed=0))


def test_every_number_of_the_weak_network_changes_the_start():
    changes = {
        "model.init_scale": 0.5,
        "optimizer.learning_rate": 0.02,
        "optimizer.weight_decay": 1.0,
        "steps": 33,
        "accuracy": 1e-6,
    }
    names = [f"transfer.{name}" for name in changes]
    own = config.resolve(config.make_config(TWO_STAGES)).plan.experiment
    base = experiment.settings_of(own)
    columns = {n: [base[n]] * (len(names) + 1) for n in names}
    for row, (name, value) in enumerate(zip(names, changes.values(), strict=True), 1):
        columns[name][row] = value
    rows = tuple(tuple(columns[name][row] for name in names) for row in range(6))
    plan = config.resolve(config.make_config(TWO_STAGES)).plan
    grid = Grid((Axis("change", tuple(names), rows),))
    plan = programs.Plan(plan.experiment, grid)
    results = runner.Sweeper(plan, MAP, say=lambda _: None).run()
    loss = results.weak_train_loss.isel(step=0).values
    assert (loss[1:] != loss[0]).all()


def operations(*layers):
    plan = config.resolve(config.make_config(TWO_STAGES, *layers)).plan
    program = programs.GroupProgram(plan.groups()[0], jax.local_devices())
    return program.operations()


def test_operations_are_those_of_the_products():
    plain = operations(dict(transfer=None))
    _, data, _ = begin()
    n, width, classes, tokens = len(data.train.x), 8, 5, 5
    tables = 2 * 2 * tokens * 6 * width  # embed times each half of the first layer
    forward = 2 * n * (width * width + width * classes) + tables
    (flops,) = plain.values()
    assert 2.5 * forward < flops < 4 * forward
    both = operations()
    assert 0 < both["weak_flops_per_step"] < both["flops_per_step"]
    assert both["flops_per_step"] > flops  # A B


def test_operations_are_results_of_every_run_that_counts_them():
    results = sweep(dict(train=dict(count_flops=True)))
    for name, value in operations().items():
        assert "step" not in results[name].dims
        assert (results[name] == value).all()


def test_train_until_stops_at_its_last_step_even_between_two_looks():
    target, data, _ = begin(dict(transfer=None))
    trained = train.train_until(
        experiment.make(target), data, steps=10, accuracy=2.0, every=7
    )
    assert int(trained.steps) == 10


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (
            dict(model=dict(embedding=0)),
            "There is no parameter of the target 'embed'; ",
        ),
        (
            dict(transfer=dict(leaf="embde")),
            "There is no parameter of the weak network 'embde'; nearest: embed",
        ),
        (
            dict(transfer=dict(model=dict(embedding=0))),
            "There is no parameter of the weak network 'embed'; ",
        ),
        (dict(transfer=dict(merge_at=5, form="copy")), "form copy has none"),
        (
            dict(transfer=dict(merge_at=20), train=dict(steps=20)),
            "merge_at is 20; it must be below train.steps",
        ),
        (
            dict(transfer=dict(merge_at=5), optimizer=dict(norm="fixed")),
            "merge_at does not go with optimizer.norm fixed",
        ),
        (
            dict(transfer=dict(merge_at=5), optimizer=dict(clip_norm=1.0)),
            "merge_at does not go with optimizer.clip_norm",
        ),
    ],
)
def test_a_transfer_that_cannot_be_is_a_sentence(layer, said):
    plan = config.resolve(config.make_config(TWO_STAGES, layer)).plan
    with pytest.raises(config.SettingError, match=said):
        programs.check_data(plan)


def test_a_graft_of_another_shape_is_a_sentence_before_anything_runs():
    layer = dict(transfer=dict(form="copy"))
    plan = config.resolve(config.make_config(TWO_STAGES, layer)).plan
    said = r"transfer: The graft for embed has shape \(5, 3\), not"
    with pytest.raises(config.SettingError, match=said):
        programs.check_data(plan)
