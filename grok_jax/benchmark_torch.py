"""The steps that `benchmark` compares with, written the usual way in PyTorch (eager,
float32, all cores): each function sets a network up and returns its training step."""

# pyright: reportMissingImports=false
import importlib.util
from collections.abc import Callable

from grok_jax.settings import SettingError


def available() -> bool:
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def need() -> None:
    """Raises SettingError where it is not."""
    if not available():
        raise SettingError("This needs PyTorch: pip install 'grok_jax[bench]'.")


def teacher_student(width: int = 100, examples: int = 100) -> Callable[[], None]:
    """Full-batch AdamW step of a tanh network 5-N-N-5 on the mean squared error."""
    import torch
    from torch import nn

    net = nn.Sequential(
        *(nn.Linear(5, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()),
        nn.Linear(width, 5),
    )
    x, y = torch.randn(examples, 5), torch.randn(examples, 5)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4, weight_decay=0.03)
    return _stepper(optimizer, lambda: nn.functional.mse_loss(net(x), y))


def mnist(width: int = 200, examples: int = 1000, batch: int = 200):
    """AdamW step of a ReLU network 784-N-N-10 on a batch, squared error on one-hot."""
    import torch
    from torch import nn

    net = nn.Sequential(
        *(nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
        nn.Linear(width, 10),
    )
    x = torch.rand(examples, 784)
    y = nn.functional.one_hot(torch.randint(10, (examples,)), 10).float()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)

    def loss():
        rows = torch.randperm(examples)[:batch]
        return nn.functional.mse_loss(net(x[rows]), y[rows])

    return _stepper(optimizer, loss)


def transformer(
    modulus: int = 113,
    fraction: float = 0.3,
    width: int = 128,
    heads: int = 4,
    mlp_width: int = 512,
) -> Callable[[], None]:
    """Full-batch AdamW step of the one-layer transformer on modular addition, every
    position computed for every sample."""
    import torch
    from torch import nn

    p, size = modulus, width // heads
    pairs = torch.randperm(p * p)[: round(fraction * p * p)]
    a, b = pairs // p, pairs % p
    tokens = torch.stack([a, b, torch.full_like(a, p)], dim=1)
    labels = (a + b) % p

    def draw(*shape: int, scale: int = width) -> nn.Parameter:
        return nn.Parameter(torch.randn(*shape) / scale**0.5)

    embed, position = draw(p + 1, width), draw(3, width)
    query, key, value = (draw(heads, size, width) for _ in range(3))
    output = draw(width, heads * size)
    mlp_in, mlp_out = draw(mlp_width, width), draw(width, mlp_width)
    biases = nn.Parameter(torch.zeros(mlp_width)), nn.Parameter(torch.zeros(width))
    unembed = draw(width, p + 1, scale=p + 1)
    every = [embed, position, query, key, value, output, mlp_in, mlp_out, unembed]
    optimizer = torch.optim.AdamW(
        [*every, *biases], lr=1e-3, weight_decay=1.0, betas=(0.9, 0.98)
    )
    hidden = torch.triu(torch.full((3, 3), -torch.inf), diagonal=1)

    def loss():
        x = embed[tokens] + position
        q, k, v = (
            torch.einsum("hkd,ntd->nhtk", part, x) for part in (query, key, value)
        )
        scores = q @ k.transpose(-1, -2) / size**0.5 + hidden
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(len(x), 3, -1)
        x = x + mixed @ output.T
        x = x + torch.relu(x @ mlp_in.T + biases[0]) @ mlp_out.T + biases[1]
        return nn.functional.cross_entropy((x @ unembed)[:, -1], labels)

    return _stepper(optimizer, loss)


def _stepper(optimizer, loss) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step
