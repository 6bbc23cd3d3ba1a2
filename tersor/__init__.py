"""Tersor: the compressing compiler for Apache TVM."""

import tersor.began  # noqa: F401 - first: the other imports take seconds

# isort: split
from tersor.autoscheduler.driver import search
from tersor.autoscheduler.result import Searched
from tersor.autoscheduler.settings import Settings
from tersor.compiler import Compiled, Model, compile, load_model
from tersor.config import Config
from tersor.error import UserError
from tersor.frontend import import_model
from tersor.hardware import Hardware
from tersor.plan import Plan
from tersor.relax_pipeline import pipeline
from tersor.report import Report
from tersor.scheduler.contract import Contract
from tersor.scheme import Scheme
from tersor.statistics import Statistics

__all__ = [
    "Compiled",
    "Config",
    "Contract",
    "Hardware",
    "Model",
    "Plan",
    "Report",
    "Scheme",
    "Searched",
    "Settings",
    "Statistics",
    "UserError",
    "compile",
    "import_model",
    "load_model",
    "pipeline",
    "search",
]
