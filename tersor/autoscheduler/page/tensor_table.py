"""Tensor table: the tensors between layers, which of them stay on the chip, and why others do not."""

from tersor.autoscheduler.page.amounts import amount, count_of
from tersor.autoscheduler.page.markup import Cell, Markup, code, paragraph, table
from tersor.autoscheduler.report import SearchedTensor, SearchReport


def tensor_table(report: SearchReport) -> Markup:
    """All tensors that one program of an accelerator makes and others read, in the order of the network."""
    if not report.tensors:
        return Markup()
    kept = [each for each in report.tensors if not each.reason]
    saved = amount("size", sum(each.saved for each in kept))
    says = f"{count_of(len(kept), 'tensor')} of {len(report.tensors)} stay on the chip; {saved} or more are "
    says += "not moved outside."
    names = ("made by", "read by", "size", "not moved", "why it does not stay")
    return Markup.of(paragraph(says), table(names, [("", _row(each)) for each in report.tensors]))


def _row(tensor: SearchedTensor) -> list[Cell | str]:
    readers = Markup.of(*(code(reader) for reader in tensor.readers[:1]))
    for reader in tensor.readers[1:]:
        readers = Markup.of(readers, ", ", code(reader))
    return [
        Cell(code(tensor.producer)),
        Cell(readers),
        Cell(amount("size", tensor.size), tensor.size),
        Cell(amount("size", tensor.saved) if tensor.saved else "", tensor.saved),
        tensor.reason,
    ]
