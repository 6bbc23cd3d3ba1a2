"""Model version: a digest of all that costs of accelerators depend on beside their arguments."""

import hashlib
from functools import cache
from pathlib import Path

from tersor import layer
from tersor.hardware import Hardware
from tersor.targets import accelerator

NOUNS = ("layer.py", "scheme.py", "factor.py", "sparsity.py", "weight_format.py", "mapping.py")


@cache
def model_version() -> str:
    """The digest of the source of model, schedule, mapper and their nouns: another one, other costs."""
    home, model = Path(layer.__file__).parent, Path(accelerator.__file__).parent
    files = [home / name for name in NOUNS]
    for folder in (home / "hardware", home / "formats", model, model / "mapper", model / "schedule"):
        files += sorted(folder.glob("*.py"))
    files += [Path(__file__).with_name(name) for name in ("costs.py", "homes.py", "points.py")]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def hardware_digest(hardware: Hardware) -> str:
    """The digest of all that a description says."""
    return hashlib.sha256(repr(hardware).encode()).hexdigest()
