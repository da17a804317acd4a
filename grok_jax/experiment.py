"""An experiment: a tree of parts, and the pure functions that it makes.

    Experiment(task=part(polynomial, ...), model=part(committee, ...), ...)
    make_dataset(experiment) -> Dataset
    make(experiment)         -> train.Run, its init, advance and measure

Traced settings may be arrays, so that everything here also happens inside a compiled
sweep; they are the leaves of the tree, all else is its structure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from grok_jax import ntk, observables, optim, rng, transfer, tree
from grok_jax.models import wrappers
from grok_jax.models.fnn import fnn
from grok_jax.models.modules import as_model
from grok_jax.parts import Part, part
from grok_jax.settings import (
    Bounds,
    Count,
    Leaf,
    Momentum,
    Natural,
    NonNegative,
    OwnSeed,
    Positive,
    Seed,
    Steps,
    TracedSteps,
    schema,
)
from grok_jax.train import (
    Batches,
    Observable,
    Run,
    Start,
    Trained,
    make_run,
    train_until,
)
from grok_jax.types import Apply, Dataset, Dynamics, Params, Split, Stop, Task


@dataclass(frozen=True, kw_only=True)
class Wrapping:
    """What is put around a model."""

    output_scale: Positive = 1.0
    init_scale: Positive = 1.0
    centered: bool = False
    linearized: bool = False


@dataclass(frozen=True, kw_only=True)
class Descent:
    """What is put around an optimiser."""

    rule: Literal["plain", "lazy"] = "plain"
    norm: Literal["free", "fixed"] = "free"
    gradient: Literal["plain", "grokfast_ema", "grokfast_ma", "orthogonal"] = "plain"
    grokfast_decay: Momentum = 0.98
    grokfast_strength: NonNegative = 2.0
    grokfast_window: Count = 100


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """GrokTransfer: what of a weak network the target begins with."""

    source: Literal["none", "weak", "random"] = "none"
    form: Literal["product", "copy"] = "product"
    merge_at: Natural = 0
    weak_leaf: str = "embed"
    weak_embedding: Natural = 4
    weak_width: Count = 16
    weak_layers: Count = 2
    weak_init_scale: Positive = 1.0
    weak_learning_rate: Positive = 5e-3
    weak_weight_decay: NonNegative = 0.1
    weak_steps: TracedSteps = 10_000
    weak_accuracy: Positive = 2.0
    weak_every: Count = 10
    weak_candidates: Count = 1


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long a run trains, and when it is measured."""

    steps: Steps = 1000
    records: Count = 100
    spacing: Literal["log", "linear"] = "log"
    batch_size: Natural = 0
    count_flops: bool = False


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """The rule by which a run ends early (`types.Stop`)."""

    metric: str = ""
    threshold: Annotated[float, Bounds()] = 0.0
    above: bool = False
    patience: NonNegative = 0.0


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Seeds that stand in for a run's own (`rng.run_keys`); -1: its own."""

    data: OwnSeed = -1
    split: OwnSeed = -1
    init: OwnSeed = -1
    batches: OwnSeed = -1


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What is computed beside a run in closed form."""

    lazy: bool = False


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """At every how many records an observable is taken."""

    every: Count = 1


class Observed(NamedTuple):
    """An observable and its rhythm."""

    part: Part
    rhythm: Part


class Experiment(NamedTuple):
    """The parts of one run, or of many: traced settings may have a run axis."""

    seed: Any
    task: Part
    model: Part
    wrapping: Part
    loss: Part
    optimizer: Part
    descent: Part
    observe: dict[str, Observed]
    transfer: Part
    train: Part
    stop: Part
    seeds: Part
    reference: Part


def _seed(*, seed: Seed = 0) -> None: ...


SEED = schema(_seed)["seed"]
SECTIONS: dict[str, tuple[str, ...]] = {
    "task": ("task",),
    "model": ("model", "wrapping"),
    "loss": ("loss",),
    "optimizer": ("optimizer", "descent"),
    "transfer": ("transfer",),
    "train": ("train",),
    "stop": ("stop",),
    "seeds": ("seeds",),
    "reference": ("reference",),
}
"""section of a configuration -> the fields of an experiment that it sets."""
FIXED: dict[str, Callable] = {
    "wrapping": Wrapping,
    "descent": Descent,
    "transfer": Transfer,
    "train": Training,
    "stop": Stopping,
    "seeds": Seeds,
    "reference": Reference,
}
"""Fields whose part is always the same one."""


def parts_of(experiment: Experiment) -> dict[str, tuple[Part, ...]]:
    """section ("model", "observe.norms") -> the parts whose settings it holds."""
    own = experiment._asdict()
    return {
        **{name: tuple(own[f] for f in fields) for name, fields in SECTIONS.items()},
        **{f"observe.{name}": tuple(one) for name, one in experiment.observe.items()},
    }


def leaves_of(experiment: Experiment) -> dict[str, Leaf]:
    """path ("model.width") -> the declaration of every setting that may be swept."""
    return {
        "seed": SEED,
        **{
            f"{section}.{name}": own.leaf(name)
            for section, parts in parts_of(experiment).items()
            for own in parts
            for name in own.settings
        },
    }


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """path -> value, of every setting."""
    return {
        "seed": experiment.seed,
        **{
            f"{section}.{name}": value
            for section, parts in parts_of(experiment).items()
            for own in parts
            for name, value in own.settings.items()
        },
    }


def with_settings(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """The experiment with other values at these paths, which are checked already."""
    for path, value in changes.items():
        section, _, name = path.rpartition(".")
        if not section:
            experiment = experiment._replace(seed=value)
        elif section in SECTIONS:
            own = experiment._asdict()
            field = next(f for f in SECTIONS[section] if name in own[f].settings)
            experiment = experiment._replace(
                **{field: own[field].replace(**{name: value})}
            )
        else:
            key = section.removeprefix("observe.")
            parts = [
                p.replace(**{name: value}) if name in p.settings else p
                for p in experiment.observe[key]
            ]
            observe = {**experiment.observe, key: Observed(*parts)}
            experiment = experiment._replace(observe=observe)
    return experiment


def stack(experiments: Sequence[Experiment]) -> Experiment:
    """Experiments of one structure as one, whose traced settings have a run axis."""

    def column(*values: Any) -> np.ndarray:
        real = isinstance(values[0], float)
        return np.asarray(values, jnp.result_type(float) if real else np.int32)

    return jax.tree.map(column, *experiments)


# --- data -----------------------------------------------------------------------------


def make_keys(experiment: Experiment) -> rng.Keys:
    """The random keys of a run, from its own seeds alone."""
    return rng.run_keys(experiment.seed, **experiment.seeds.settings)


def data_identity(experiment: Experiment) -> Any:
    """What a run's data depend on: runs that agree in it share one copy."""
    own = experiment.seeds
    seeds = [experiment.seed if own[n] < 0 else own[n] for n in ("data", "split")]
    leaves, structure = jax.tree.flatten(experiment.task)
    return (structure, *leaves, *seeds)


def load_files(experiment: Experiment) -> dict[str, dict[str, np.ndarray]]:
    """What a task of real data reads, as the keyword argument that it takes."""
    task = experiment.task
    load = task.make.load if isinstance(task.make, Task) else None
    if load is None:
        return {}
    return {"files": _load(load, tuple((name, task[name]) for name in schema(load)))}


@lru_cache(maxsize=4)
def _load(load: Callable, arguments: tuple) -> dict[str, np.ndarray]:
    return load(**dict(arguments))


def make_dataset(experiment: Experiment, **files: Any) -> Dataset:
    """The data of a run; `files` is what `load_files` has read, for real data."""
    return experiment.task(make_keys(experiment), **files)


# --- the run --------------------------------------------------------------------------


class Network:
    """What more than training needs: the wrapped network, its kernel, its rate."""

    def __init__(self, experiment: Experiment):
        model = as_model(experiment.model)
        wrap: Wrapping = experiment.wrapping()
        if experiment.transfer["source"] != "none":
            model = model._replace(apply=wrappers.factored(model.apply))
        self.model = wrappers.scale_init(model, wrap.init_scale)
        self.output_scale = wrap.output_scale
        self.linearized, self.centered = wrap.linearized, wrap.centered
        rate: Any = experiment.optimizer.settings.get("learning_rate")
        if experiment.descent["rule"] == "lazy" and self.model.dynamics is None:
            rate = optim.lazy_learning_rate(rate, self.output_scale, self.model.width)
        self.learning_rate = rate

    def lift(self, function: Callable, anchor: Params) -> Callable:
        """`function` of the parameters as the wrapped network sees them."""
        if self.linearized:
            function = ntk.linearize(function, anchor)
        if self.centered:
            function = wrappers.center(function, anchor)
        return function

    def apply(self, anchor: Params) -> Apply:
        """The wrapped network, given its parameters at step 0."""
        return wrappers.scale_output(
            self.lift(self.model.apply, anchor), self.output_scale
        )

    def kernel(
        self, params: Params, x1: Array, x2: Array, kind: ntk.Kind = "trace"
    ) -> Array:
        """The NTK of the network without its output scale; `trace` is [n1, n2]."""
        if self.model.kernel is not None:
            return self.model.kernel(params, x1, x2)
        other = None if x2 is x1 else x2
        return ntk.empirical_ntk(self.model.apply, params, x1, other, kind=kind)


def make(experiment: Experiment, keys: rng.Keys | None = None) -> Run:
    """The run of an experiment; `keys` are its own unless given."""
    network = Network(experiment)
    keys = keys or make_keys(experiment)
    size = experiment.train["batch_size"]

    def init(data: Dataset) -> Start:
        params = network.model.init(keys.init, data.train.x[:1])
        if network.model.prepare:
            params = network.model.prepare(params, data)
        return _transferred(experiment, keys, params, data)

    def dynamics(anchor: Params, train: Split) -> Dynamics:
        assert network.model.dynamics is not None
        y = train.y
        if network.centered:  # f - f0 - y: as uncentred, with other targets
            y = y + network.output_scale * network.model.apply(anchor, train.x)
        return network.model.dynamics(
            train.x,
            y,
            learning_rate=network.learning_rate,
            output_scale=network.output_scale,
        )

    return make_run(
        init=init,
        network=network.apply,
        loss=experiment.loss(),
        tx=_optimizer(experiment, network.learning_rate),
        dynamics=None if network.model.dynamics is None else dynamics,
        batches=Batches(size, keys.batches) if size else None,
        observables=[
            _observable(experiment, network, one) for one in experiment.observe.values()
        ],
        stop=Stop(**experiment.stop.settings) if experiment.stop["metric"] else None,
    )


def _optimizer(experiment: Experiment, rate: Any) -> optax.GradientTransformation:
    """The optimiser with what stands around it, the gradient's filter outermost but
    for the fixed norm and the merge."""
    tx = experiment.optimizer
    if "learning_rate" in tx.settings:
        tx = tx.replace(learning_rate=rate)
    own: Descent = experiment.descent()
    chained = tx()
    strength = own.grokfast_strength
    if own.gradient == "orthogonal":
        chained = optax.chain(optim.orthogonal_gradient(), chained)
    elif own.gradient == "grokfast_ema":
        slow = optim.grokfast_ema(decay=own.grokfast_decay, strength=strength)
        chained = optax.chain(slow, chained)
    elif own.gradient == "grokfast_ma":
        slow = optim.grokfast_ma(window=own.grokfast_window, strength=strength)
        chained = optax.chain(slow, chained)
    if own.norm == "fixed":
        chained = optim.fixed_norm(chained)
    if experiment.transfer["source"] != "none" and experiment.transfer["merge_at"]:
        chained = transfer.merging(chained, experiment.transfer["merge_at"])
    return chained


def _observable(
    experiment: Experiment, network: Network, observed: Observed
) -> Observable:
    own = {**experiment.model.settings, **experiment.wrapping.settings}

    def measure(params: Params, anchor: Params, data: Dataset) -> dict[str, Array]:
        view = observables.View(
            apply=network.apply(anchor),
            params=params,
            anchor=anchor,
            data=data,
            kernel=lambda p, *rest: network.kernel(
                anchor if network.linearized else p, *rest
            ),
            lift=lambda function: network.lift(function, anchor),
            model=own,
        )
        return observed.part(view)

    return Observable(measure, observed.rhythm["every"])


# --- GrokTransfer ---------------------------------------------------------------------


def weak_experiment(experiment: Experiment) -> Experiment:
    """The run of the weak network: the same task and loss on full batches, an fnn and
    an AdamW of its own, and nothing else that was asked of the target."""
    own: Transfer = experiment.transfer()
    target = experiment.model.settings
    vocabulary = target.get("vocabulary", 0)
    model = part(
        fnn,
        embedding=own.weak_embedding,
        vocabulary=vocabulary,
        width=own.weak_width,
        layers=own.weak_layers,
        outputs=target.get("outputs", vocabulary),
    )
    plain = {name: part(make) for name, make in FIXED.items()}
    return experiment._replace(
        model=model,
        wrapping=plain["wrapping"].replace(init_scale=own.weak_init_scale),
        optimizer=part(optim.adamw).replace(
            learning_rate=own.weak_learning_rate, weight_decay=own.weak_weight_decay
        ),
        descent=plain["descent"],
        observe={},
        transfer=plain["transfer"],
        train=experiment.train.replace(batch_size=0),
        stop=plain["stop"],
        reference=plain["reference"],
    )


def _transferred(
    experiment: Experiment, keys: rng.Keys, params: Params, data: Dataset
) -> Start:
    """The parameters of the target with what `transfer` brings into them."""
    own: Transfer = experiment.transfer()
    if own.source == "none":
        return Start(params, {})
    key = rng.named_key(keys.init, "transfer")
    trained = _weak_network(experiment, keys._replace(init=key), data)
    table = tree.flat_names(trained.params)[own.weak_leaf]
    if own.form == "product":
        key, width = rng.named_key(key, "b"), params["embed"].shape[1]
        table = transfer.low_rank_embedding(key, table, width)
        table = table._replace(b=experiment.wrapping["init_scale"] * table.b)
    params = transfer.graft(params, {"embed": table})
    notes = {f"weak_{name}": value for name, value in trained.record.items()}
    notes["weak_steps_taken"] = trained.steps.astype(notes["weak_test_loss"].dtype)
    return Start(transfer.with_room(params) if own.merge_at else params, notes)


def _weak_network(experiment: Experiment, keys: rng.Keys, data: Dataset) -> Trained:
    """The trained weak network: of `transfer.weak_candidates`, which differ in their
    initial parameters alone, the one of the lowest train loss.

    The test set has no say in the choice. A network as small as these hardly memorises,
    so that its train loss tells whether it has learned the rule.
    """
    own: Transfer = experiment.transfer()
    weak = weak_experiment(experiment)

    def train(key: Array) -> Trained:
        return train_until(
            make(weak, keys._replace(init=key)),
            data,
            steps=own.weak_steps if own.source == "weak" else 0,
            accuracy=own.weak_accuracy,
            every=own.weak_every,
        )

    candidates = own.weak_candidates if own.source == "weak" else 1
    if candidates == 1:
        return train(keys.init)
    return _lowest_loss(jax.vmap(train)(jax.random.split(keys.init, candidates)))


def _lowest_loss(trained: Trained) -> Trained:
    """Of several networks [candidate, ...] that of the lowest train loss, never one
    that diverged; its steps are those of all of them."""
    loss = trained.record["train_loss"]
    best = jnp.argmin(jnp.where(jnp.isfinite(loss), loss, jnp.inf))
    chosen = jax.tree.map(lambda leaf: leaf[best], trained)
    return chosen._replace(steps=trained.steps.sum())


# --- the lazy reference ---------------------------------------------------------------


def lazy_reference(
    experiment: Experiment, data: Dataset, anchor: Params, steps: np.ndarray
) -> dict[str, np.ndarray]:
    """The same run had its kernel never moved, in closed form (float64, on the host):
    lazy_train_loss and lazy_test_loss [S] at `steps`, and kernel_regression_loss [],
    the test loss of kernel regression with the initial NTK.

    Plain mean squared error and gradient descent; Kumar et al. 2024, Sec. 3.
    """
    network = Network(experiment)
    x, x_test = data.train.x, data.test.x
    net = network.apply(anchor)
    k_train = _host(network.kernel(anchor, x, x))
    k_test = _host(network.kernel(anchor, x_test, x))
    f0, f0_test = _host(net(anchor, x)), _host(net(anchor, x_test))
    y, y_test = _host(data.train.y), _host(data.test.y)
    rate = float(np.asarray(network.learning_rate))
    if network.model.dynamics is None:
        rate *= float(np.asarray(network.output_scale)) ** 2
    f, f_test = ntk.lazy_dynamics(
        k_train, y, k_test, rate, steps, f0_train=f0, f0_eval=f0_test
    )
    limit = f0_test + _host(ntk.kernel_regression(k_train, y - f0, k_test))
    return {
        "lazy_train_loss": _mean_square(_host(f) - y[None]),
        "lazy_test_loss": _mean_square(_host(f_test) - y_test[None]),
        "kernel_regression_loss": _mean_square((limit - y_test)[None])[0],
    }


def _host(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64)


def _mean_square(residual: np.ndarray) -> np.ndarray:
    """[S, n] or [S, n, C] -> [S]: mean over examples of the sum over outputs."""
    square = residual**2
    return np.mean(square.reshape(*square.shape[:2], -1).sum(-1), axis=1)
