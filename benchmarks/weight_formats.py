"""Every weight format on networks with images: bytes as stored against the closed form, SNR and accuracy."""

from collections.abc import Sequence

from rows import Row
from tasks import Task

from tersor.compiler import Compiled
from tersor.formats.size import stored_bytes
from tersor.passes.extract import extract
from tersor.scheme import Scheme

SCHEMES = (
    "int8", "w6a8", "w5a8", "w4a8", "w3a8", "w2a8", "ternary-a8", "binary-a8", "w4g32a8", "codebook8-a8",
    "codebook4-a8", "pot4-a8", "w4a32", "w4g32", "fp16", "bf16", "e4m3", "e5m2", "mxint8", "mxfp4",
)  # fmt: skip


def weight_formats(found: Sequence[Task]) -> list[Row]:
    """Round every layer to nearest in each format, compile, and judge; the recipe is the default one."""
    rows: list[Row] = []
    for task in found:
        for scheme in SCHEMES:
            compiled = task.compiled(scheme)
            judged = task.judge(task.logits(compiled))
            given = [layer for layer in compiled.plan.layers.values() if layer.scheme == Scheme.parse(scheme)]
            figures = {
                "layers_%": 100 * len(given) / len(compiled.plan.layers),
                "KB": compiled.report.totals.bytes / 1e3,
                "closed_form_KB": _closed_form(task, compiled) / 1e3,
                "top1_%": judged.top1,
                "points_lost": judged.lost,
                "snr_db": judged.snr,
            }
            rows += [Row("formats", scheme, task.name, scheme, *figure) for figure in figures.items()]
    return rows


def _closed_form(task: Task, compiled: Compiled) -> int:
    layers = {layer.name: layer for layer in extract(task.model.mod).layers}
    return sum(stored_bytes(layers[name], plan.scheme) for name, plan in compiled.plan.layers.items())
