"""Tersor: the compressing compiler for Apache TVM."""

from tersor.compiler import Compiled, Model, compile, load_model
from tersor.config import Config
from tersor.error import UserError
from tersor.frontend import import_model
from tersor.hardware import Hardware
from tersor.lowering import pipeline
from tersor.plan import Plan
from tersor.report import Report
from tersor.scheme import Scheme
from tersor.statistics import Statistics

__all__ = [
    "Compiled",
    "Config",
    "Hardware",
    "Model",
    "Plan",
    "Report",
    "Scheme",
    "Statistics",
    "UserError",
    "compile",
    "import_model",
    "load_model",
    "pipeline",
]
