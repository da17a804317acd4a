"""An experiment: a tree of parts, and the pure functions that it makes.

    Experiment(task=part(polynomial, ...), model=part(committee, ...), ...)
    make_dataset(experiment) -> Dataset
    make(experiment)         -> train.Run, its init, advance and measure

Traced settings may be arrays, so that everything here also happens inside a compiled
sweep; they are the leaves of the tree, all else is its structure.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from grok_jax import grok_transfer, observables, optim, rng, transfer
from grok_jax.network import Network
from grok_jax.parts import Part, plain
from grok_jax.settings import (
    Count,
    Leaf,
    Natural,
    NonNegative,
    OwnSeed,
    Positive,
    Seed,
    SettingError,
    Steps,
    schema,
)
from grok_jax.train import Batches, Observable, Run, Start, make_run, threshold
from grok_jax.types import Dataset, Params, Stop, Task


@dataclass(frozen=True, kw_only=True)
class Wrapping:
    """What may stand around any model."""

    output_scale: Positive = 1.0
    init_scale: Positive = 1.0
    centered: bool = False
    linearized: bool = False


@dataclass(frozen=True, kw_only=True)
class Descent:
    """What may stand around any optimiser."""

    rule: Literal["plain", "lazy"] = "plain"
    norm: Literal["free", "fixed"] = "free"


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long a run trains, and when it is measured."""

    steps: Steps = 1000
    records: Count = 100
    spacing: Literal["log", "linear"] = "log"
    batch_size: Natural = 0
    count_flops: bool = False


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a stop rule has to hold, beside the steps until it first did."""

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


class Transferred(NamedTuple):
    """A weak network, and how what it learns enters the target."""

    how: Part
    model: Part
    wrapping: Part
    optimizer: Part


class Experiment(NamedTuple):
    """The parts of one run, or of many: traced settings may have a run axis.

    `wrap` are wrappers of the network, (apply, anchor) -> apply, the first innermost;
    `gradient` transformations of the gradient before the optimiser, in their order.
    """

    seed: Any
    task: Part
    model: Part
    wrapping: Part
    wrap: OrderedDict[str, Part]
    loss: Part
    optimizer: Part
    descent: Part
    gradient: OrderedDict[str, Part]
    observe: OrderedDict[str, Observed]
    transfer: Transferred | None
    train: Part
    stop: Part
    patience: Part
    seeds: Part
    reference: Part


# --- settings by their paths ----------------------------------------------------------


def _seed(*, seed: Seed = 0) -> None: ...


SEED = schema(_seed)["seed"]
CHOSEN: dict[str, tuple[str, str]] = {
    "task": ("task", "polynomial"),
    "model": ("model", "committee"),
    "loss": ("loss", "squared_error"),
    "optimizer": ("optimizer", "gradient_descent"),
    "stop": ("stop rule", "threshold"),
}
"""section of a configuration -> what its `name` chooses, and which it is by default"""
WEAK: dict[str, tuple[str, str]] = {
    "transfer.model": ("model", "fnn"),
    "transfer.optimizer": ("optimizer", "adamw"),
}
"""The same of the weak network, where there is one."""
NAMED: dict[str, str] = {
    "wrap": "wrapper",
    "gradient": "gradient transformation",
    "observe": "observable",
}
"""section of any number of parts, each with a name of its own -> what they are"""
FIXED: dict[str, Callable] = {
    "wrapping": Wrapping,
    "descent": Descent,
    "train": Training,
    "patience": Patience,
    "seeds": Seeds,
    "reference": Reference,
}
_WITHIN = {"wrapping": "model", "descent": "optimizer", "patience": "stop"}
_SAME = ("how", "part", "rhythm")


def assemble(makes: Mapping[str, Callable]) -> Experiment:
    """The experiment of these parts at their defaults, by section ("transfer.model",
    "observe.norms"); a setting that has no default is not there yet."""

    def named(section: str) -> OrderedDict[str, Part]:
        own = ((path.partition("."), make) for path, make in makes.items())
        return OrderedDict((p[2], plain(m)) for p, m in own if p[0] == section)

    weak = None
    if all(section in makes for section in WEAK):
        weak = Transferred(
            plain(grok_transfer.Transfer),
            plain(makes["transfer.model"]),
            plain(Wrapping),
            plain(makes["transfer.optimizer"]),
        )
    rhythm = plain(Rhythm)
    return Experiment(
        seed=SEED.default,
        wrap=named("wrap"),
        gradient=named("gradient"),
        observe=OrderedDict(
            (name, Observed(one, rhythm)) for name, one in named("observe").items()
        ),
        transfer=weak,
        **{section: plain(makes[section]) for section in CHOSEN},
        **{field: plain(make) for field, make in FIXED.items()},
    )


def map_parts(function: Callable[[str, Part], Part], tree: Any, at: str = "") -> Any:
    """A tree of parts with each replaced by `function(section, part)`."""
    if isinstance(tree, Part):
        return function(at, tree)
    if isinstance(tree, OrderedDict):
        own = ((k, map_parts(function, v, f"{at}.{k}")) for k, v in tree.items())
        return OrderedDict(own)
    if not isinstance(tree, (Observed, Transferred, Experiment)):
        return tree
    place = f"{at}." if at else ""
    sections = {
        field: at if field in _SAME else f"{place}{_WITHIN.get(field, field)}"
        for field in tree._fields
    }
    own = zip(sections.values(), tree, strict=True)
    return type(tree)(*(map_parts(function, value, section) for section, value in own))


def parts_of(experiment: Experiment) -> list[tuple[str, Part]]:
    """(section, part) of every part."""
    found: list[tuple[str, Part]] = []

    def note(section: str, own: Part) -> Part:
        found.append((section, own))
        return own

    map_parts(note, experiment)
    return found


def leaves_of(experiment: Experiment) -> dict[str, Leaf]:
    """path ("model.width") -> the declaration of every setting that may be swept."""
    return {
        "seed": SEED,
        **{
            f"{section}.{name}": leaf
            for section, own in parts_of(experiment)
            for name, leaf in schema(own.make).items()
        },
    }


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """path -> value, of every setting."""
    return {
        "seed": experiment.seed,
        **{
            f"{section}.{name}": value
            for section, own in parts_of(experiment)
            for name, value in own.settings.items()
        },
    }


def with_settings(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """The experiment with other values at these paths, which are checked already; paths
    that it does not have change nothing."""
    sections: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        section, _, name = path.rpartition(".")
        sections.setdefault(section, {})[name] = value

    def change(section: str, own: Part) -> Part:
        known = schema(own.make)
        new = {k: v for k, v in sections.get(section, {}).items() if k in known}
        return own.replace(**new) if new else own

    changed = map_parts(change, experiment)
    return changed._replace(seed=changes.get("seed", experiment.seed))


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


def network_of(experiment: Experiment) -> Network:
    """The wrapped network of a run, its kernel and its rate."""
    optimizer = experiment.optimizer.settings
    return Network(
        experiment.model,
        experiment.wrapping(),
        experiment.task,
        wraps=tuple(experiment.wrap.values()),
        learning_rate=optimizer.get("learning_rate"),
        lazy=experiment.descent["rule"] == "lazy",
        factored=experiment.transfer is not None,
    )


def make(experiment: Experiment, keys: rng.Keys | None = None) -> Run:
    """The run of an experiment; `keys` are its own unless given.

    Raises: SettingError where parts do not go together, at once or when traced.
    """
    network = network_of(experiment)
    if network.model.dynamics is not None and not is_plain(experiment):
        raise SettingError(
            "A model with dynamics of its own follows optimizer.name gradient_descent "
            "with momentum 0, weight_decay 0 and norm free on full batches, its "
            "gradient as it is."
        )
    weak = experiment.transfer
    if weak is not None:
        steps, norm = experiment.train["steps"], experiment.descent["norm"]
        grok_transfer.check(weak.how(), steps, norm)
    keys = keys or make_keys(experiment)
    size = experiment.train["batch_size"]

    def init(data: Dataset) -> Start:
        params = network.model.init(keys.init, data.train.x[:1])
        if network.model.prepare:
            params = network.model.prepare(params, data)
        if weak is None:
            return Start(params, {})
        return grok_transfer.transferred(
            weak.how(),
            lambda key: make(weak_experiment(experiment), keys._replace(init=key)),
            rng.named_key(keys.init, "transfer"),
            params,
            data,
            init_scale=experiment.wrapping["init_scale"],
        )

    return make_run(
        init=init,
        network=network.apply,
        loss=experiment.loss(),
        tx=_optimizer(experiment, network.learning_rate),
        dynamics=None if network.model.dynamics is None else network.dynamics,
        batches=Batches(size, keys.batches) if size else None,
        observables=[
            _observable(experiment, network, one) for one in experiment.observe.values()
        ],
        stop=_stop(experiment),
    )


def _stop(experiment: Experiment) -> Stop | None:
    never = experiment.stop.make is threshold and not experiment.stop["metric"]
    rule = Stop(experiment.stop, experiment.patience["patience"])
    return None if never else rule


def is_plain(experiment: Experiment) -> bool:
    """Whether a step is the rate times the gradient on all examples, and no more."""
    own = experiment.optimizer
    return (
        own.make is optim.gradient_descent
        and not any(own[name] for name in ("momentum", "weight_decay", "clip_norm"))
        and not (own["rate_drops"] or own["warmup_steps"])
        and experiment.descent["norm"] == "free"
        and not experiment.gradient
        and not experiment.train["batch_size"]
    )


def _optimizer(experiment: Experiment, rate: Any) -> optax.GradientTransformation:
    """The gradient's transformations, the optimiser, the sphere, the merge."""
    tx = experiment.optimizer
    if "learning_rate" in tx.settings:
        tx = tx.replace(learning_rate=rate)
    filters = [own() for own in experiment.gradient.values()]
    chained = optax.chain(*filters, tx()) if filters else tx()
    if experiment.descent["norm"] == "fixed":
        chained = optim.fixed_norm(chained)
    if experiment.transfer and experiment.transfer.how["merge_at"]:
        chained = transfer.merging(chained, experiment.transfer.how["merge_at"])
    return chained


def _observable(
    experiment: Experiment, network: Network, observed: Observed
) -> Observable:
    def measure(params: Params, anchor: Params, data: Dataset) -> dict[str, Array]:
        view = observables.View(
            apply=network.apply(anchor),
            params=params,
            anchor=anchor,
            data=data,
            kernel=lambda p, *rest: network.kernel(anchor, p, *rest),
            lift=lambda function: network.lift(function, anchor),
            loss=experiment.loss(),
            model={**network.settings, **experiment.wrapping.settings},
        )
        return observed.part(view)

    return Observable(measure, observed.rhythm["every"])


def weak_experiment(experiment: Experiment) -> Experiment:
    """The run of the weak network: the same task and loss on full batches, a model and
    an optimiser of its own, and nothing else that was asked of the target."""
    own = experiment.transfer
    assert own is not None
    return experiment._replace(
        model=own.model,
        wrapping=own.wrapping,
        wrap=OrderedDict(),
        optimizer=own.optimizer,
        descent=plain(Descent),
        gradient=OrderedDict(),
        observe=OrderedDict(),
        transfer=None,
        train=experiment.train.replace(batch_size=0),
        stop=plain(threshold),
        reference=plain(Reference),
    )
