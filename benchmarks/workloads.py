"""What is measured: the settings of each workload, and its goals."""

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Any]

DYNAMICS: Settings = dict(
    task=dict(name="polynomial", input_dim=100, train_size=550),
    model=dict(name="committee_dynamics", width=0),
    optimizer=dict(name="gradient_descent", learning_rate=0.5, rule="lazy"),
    observe=dict(population_risk={}),
)
COMMITTEE: Settings = {**DYNAMICS, "model": dict(name="committee", width=500)}
TEACHER_STUDENT: Settings = dict(
    task=dict(name="teacher_student"),
    model=dict(name="mlp", width=100, outputs=5, activation="tanh"),
    loss=dict(name="squared_error", outputs="mean"),
    optimizer=dict(name="adamw", learning_rate=3e-4, weight_decay=0.03),
)
DIGITS: Settings = dict(
    task=dict(name="mnist", train_size=1000, test_size=1000),
    model=dict(name="mlp", width=200, outputs=10),
    loss=dict(name="classification", error="squared_error"),
    optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=0.01),
    train=dict(batch_size=200),
)
TRANSFORMER: Settings = dict(
    task=dict(name="modular_tokens", modulus=113, train_fraction=0.3),
    model=dict(name="transformer", vocabulary=114),
    loss=dict(name="classification"),
    optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=1.0, b2=0.98),
)
FNN: Settings = dict(
    task=dict(name="modular_tokens", modulus=113, train_fraction=0.25, equals=False),
    model=dict(name="fnn", vocabulary=113, outputs=113),
    loss=dict(name="classification"),
    optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=1.0),
)
REVIEWS: Settings = dict(
    task=dict(name="imdb", train_size=750, test_size=250, length=100),
    model=dict(name="lstm", vocabulary=1000, embedding=32, hidden=32, layers=2),
    loss=dict(name="binary_cross_entropy"),
    optimizer=dict(name="adamw", learning_rate=1e-3),
    train=dict(batch_size=50),
)
MOLECULES: Settings = dict(
    task=dict(name="qm9", molecules=1000, train_size=100, test_size=100),
    model=dict(name="gcn"),
    loss=dict(name="squared_error", tolerance=1.0),
    optimizer=dict(name="adamw", learning_rate=1e-3),
    train=dict(batch_size=32),
)
STEPS: Mapping[str, Settings] = {
    "teacher_student": TEACHER_STUDENT,
    "mnist": DIGITS,
    "transformer": TRANSFORMER,
    "fnn": FNN,
    "lstm": REVIEWS,
    "gcn": MOLECULES,
    "committee": COMMITTEE,
    "committee_dynamics": DYNAMICS,
}
"""The steps of the `cpu` presets; those of O3 and O4 use stand-ins for their data."""

FASTER_THAN_PYTORCH: Mapping[str, float] = {
    "teacher_student": 14.0,
    "mnist": 2.5,
    "transformer": 7.0,
    "lstm": 3.0,
}
"""Goal: how many times as fast as eager PyTorch a step is on two cores."""
SHARE_OF_GEMM: Mapping[str, float] = {
    "teacher_student": 0.70,
    "mnist": 0.85,
    "transformer": 0.75,
}
"""Goal: the fraction of the GEMM bound that a step reaches on two cores."""
AMONG_MANY: Mapping[str, float] = dict.fromkeys(
    ("committee_dynamics", "committee", "teacher_student"), 1.05
)
"""Goal: the cost of a run-step among many runs over its cost alone, in `map` mode."""
RUN_STEP: Mapping[str, Mapping[str, float]] = {
    "H200": {
        **{"teacher_student": 0.3e-6, "mnist": 5e-6, "transformer": 100e-6},
        **{"fnn": 140e-6, "lstm": 25e-6, "gcn": 1.5e-6},
        **{"committee": 3e-6, "committee_dynamics": 0.8e-6},
    }
}
"""Goal: part of a device's name -> seconds of a run-step among 1,024 runs, or as many
as fit, in `vmap` mode."""
