"""Import: models from files into the Relax module that the passes work on."""

from tersor.frontend.onnx_import import import_model, static_model
from tersor.frontend.verification import verify

__all__ = ["import_model", "static_model", "verify"]
