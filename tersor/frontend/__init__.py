"""Import: models into the Relax module that the passes work on."""

from tersor.frontend.onnx_import import static_model
from tersor.frontend.sources import from_torch, import_model
from tersor.frontend.torch_import import Examples, is_torch_module
from tersor.frontend.verification import verify

__all__ = ["Examples", "from_torch", "import_model", "is_torch_module", "static_model", "verify"]
