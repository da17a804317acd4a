"""The lazy reference of a run: the same run with its kernel fixed at step 0."""

from typing import Any

import numpy as np

from grok_jax import losses, ntk
from grok_jax.experiment import Experiment, is_plain, network_of
from grok_jax.settings import SettingError
from grok_jax.types import Dataset, Params


def check(experiment: Experiment, data: Dataset) -> None:
    """Raises SettingError if a run on data of these shapes has no closed form."""
    plain_loss = experiment.loss.make is losses.regression
    if not (is_plain(experiment) and plain_loss and data.train.y.ndim == 1):
        raise SettingError(
            "reference.lazy has a closed form for optimizer.name gradient_descent at a "
            "constant rate without momentum, weight decay or clipping, norm free, full "
            "batches, no gradient transformations, loss.name squared_error and tasks "
            "with one output."
        )


def lazy_reference(
    experiment: Experiment, data: Dataset, anchor: Params, steps: np.ndarray
) -> dict[str, np.ndarray]:
    """Losses of the same run with its kernel fixed at step 0, in closed form (float64,
    on the host): lazy_train_loss and lazy_test_loss [S] at `steps`, and
    kernel_regression_loss [], the test loss of kernel regression with the initial NTK.

    For plain mean squared error and gradient descent; Kumar et al. 2024, Sec. 3.

    Raises: SettingError if examples have unequal weights.
    """
    network = network_of(experiment)
    x, x_test = data.train.x, data.test.x
    if len(np.unique(data.train.weight)) > 1:
        raise SettingError(
            "reference.lazy has a closed form for tasks whose examples have equal "
            "weights."
        )
    net = network.apply(anchor)
    k_train = _host(network.kernel(anchor, anchor, x, x))
    k_test = _host(network.kernel(anchor, anchor, x_test, x))
    f0, f0_test = _host(net(anchor, x)), _host(net(anchor, x_test))
    y, y_test = _host(data.train.y), _host(data.test.y)
    rate = float(np.asarray(network.learning_rate))
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
