"""Kernels from the weights that a training loop of one's own has saved."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import safetensors.flax

from grok_jax import ntk, snapshots
from grok_jax.kernel_history import kernel_history
from grok_jax.tree import flat_names

X = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
Y = X[:, :1] * X[:, 1:2]


def network(params, x):
    return jnp.tanh(x @ params["in"]["w"]) @ params["out"]


@pytest.fixture(scope="module")
def trained():
    """The weights at four steps of a training loop with Adam."""
    rng = np.random.default_rng(1)
    params = {
        "in": {"w": jnp.asarray(rng.standard_normal((3, 8)), jnp.float32)},
        "out": jnp.asarray(rng.standard_normal((8, 1)), jnp.float32),
    }
    optimizer = optax.adam(0.05)
    state, found = optimizer.init(params), [params]
    gradient = jax.jit(jax.grad(lambda p: jnp.mean((network(p, X) - Y) ** 2)))
    for step in range(30):
        updates, state = optimizer.update(gradient(params), state)
        params = optax.apply_updates(params, updates)
        found += [params] if step % 10 == 9 else []
    return found


def save(how, folder, step, params):
    if how == "safetensors":
        safetensors.flax.save_file(flat_names(params), folder / f"{step}.safetensors")
        return folder / f"{step}.safetensors"
    if how == "manager":
        with ocp.CheckpointManager(folder) as manager:
            manager.save(step, args=ocp.args.StandardSave(params))
        return folder / str(step)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / str(step), params)
    return folder / str(step)


@pytest.mark.parametrize("how", ["orbax", "manager", "safetensors"])
def test_kernels_of_what_was_saved_are_those_of_the_weights(tmp_path, trained, how):
    paths = [save(how, tmp_path, i, params) for i, params in enumerate(trained)]
    found = snapshots.kernels(network, paths, X, like=trained[0])
    expected = [ntk.empirical_ntk(network, params, X) for params in trained]
    np.testing.assert_array_equal(found, np.stack(expected))


def test_the_history_of_a_training_begins_at_no_distance_and_moves(trained):
    found = snapshots.kernels(network, trained, X)
    history = kernel_history(found, np.broadcast_to(Y, (4, 6, 1)))
    assert abs(history.distance[0]) < 1e-12
    assert (np.diff(history.distance) > 0).all()


def test_weights_are_taken_from_a_larger_tree(tmp_path, trained):
    state = {"params": trained[1], "step": jnp.asarray(7)}
    path = save("orbax", tmp_path, 0, state)
    like = jax.eval_shape(lambda: state)
    found = snapshots.kernels(
        network, [path], X, like=like, select=lambda tree: tree["params"]
    )
    np.testing.assert_array_equal(found[0], ntk.empirical_ntk(network, trained[1], X))


@pytest.mark.parametrize("how", ["orbax", "safetensors"])
def test_what_does_not_fit_is_named(tmp_path, trained, how):
    path = save(how, tmp_path, 0, trained[0])
    with pytest.raises(ValueError, match=r"missing: more; unknown: out\."):
        snapshots.load(path, {"in": trained[0]["in"], "more": jnp.zeros(2)})
    with pytest.raises(ValueError, match=r"out has shape \(8, 1\), not \(9, 1\)"):
        snapshots.load(path, {**trained[0], "out": jnp.zeros((9, 1))})


def test_errors_are_one_clear_sentence(tmp_path, trained):
    with pytest.raises(FileNotFoundError, match="There are no weights at"):
        snapshots.load(tmp_path / "none", trained[0])
    with pytest.raises(ValueError, match="Paths need `like`"):
        snapshots.kernels(network, [tmp_path], X)
    (tmp_path / "steps").mkdir()
    with pytest.raises(ValueError, match="is no orbax checkpoint; give the folder"):
        snapshots.load(tmp_path / "steps", trained[0])
    with pytest.raises(ValueError, match="are one tree; give a list"):
        snapshots.kernels(lambda w, x: x @ w["w"], {"w": np.ones(2)}, np.eye(2))
    with pytest.raises(ValueError, match="There are no snapshots"):
        snapshots.kernels(network, [], X)


def test_without_safetensors_one_sentence_names_it(tmp_path, trained, monkeypatch):
    path = save("safetensors", tmp_path, 0, trained[0])
    monkeypatch.setitem(__import__("sys").modules, "safetensors.flax", None)
    with pytest.raises(ImportError, match="pip install safetensors"):
        snapshots.load(path, trained[0])
