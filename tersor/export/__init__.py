"""Export: a quantized module as an ONNX file that other tools open."""

from tersor.export.qdq import export_onnx

__all__ = ["export_onnx"]
