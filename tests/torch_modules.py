"""Small networks of PyTorch, seeded, in inference mode; import it after `pytest.importorskip("torch")`."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """A residual block: two convolutions with batch norms, the second added to what comes in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(x + self.bn2(self.conv2(inner)))


class ResNet(nn.Module):
    """A stem, two residual blocks, pooling and a dense layer: [N, 3, 16, 16] -> [N, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(Block(16), Block(16))
        self.fc = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu6(self.stem(image)), 2)
        return self.fc(functional.adaptive_avg_pool2d(self.blocks(x), 1).flatten(1))


class Encoder(nn.Module):
    """A transformer block and a head on its last token: [N, T, 16] -> [N, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x)[:, -1])


class CrossAttention(nn.Module):
    """Attention of one sequence to another, with the weights that it gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.attention(x, memory, memory)


class Tagger(nn.Module):
    """An embedding, a recurrent net and a class for each token: [N, T] -> [N, T, 4]."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], layers: int = 1, both: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.rnn = kind(8, 6, num_layers=layers, batch_first=True, bidirectional=both)
        self.fc = nn.Linear(12 if both else 6, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.fc(self.rnn(self.embedding(tokens))[0])


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> object:
        return self.function(x)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a module with seeded weights and batch norms that have seen data, in inference mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                for tensor in (part.weight, part.running_var):
                    nn.init.uniform_(tensor, 0.5, 1.5)
                for tensor in (part.bias, part.running_mean):
                    nn.init.normal_(tensor, 0, 0.2)
    return module.eval()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Draw unit normals."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    """Draw tokens below 20."""
    return torch.randint(0, 20, shape, generator=torch.Generator().manual_seed(seed))
