"""Schemes: an integer network says by which scheme each of its layers came about."""

from collections.abc import Mapping

from tersor.ir.graph import Module
from tersor.scheme import Scheme

_ATTRIBUTE = "schemes"


def with_schemes(mod: Module, schemes: Mapping[str, Scheme]) -> Module:
    """Write the schemes of a module's layers, by name, into its attributes, if it has any."""
    if not schemes:
        return mod
    return mod.with_attr(_ATTRIBUTE, {name: str(scheme) for name, scheme in sorted(schemes.items())})


def schemes_of(mod: Module) -> dict[str, Scheme]:
    """Read the schemes of a module's layers; a module without any gives none."""
    written = (mod.attrs or {}).get(_ATTRIBUTE, {})
    return {str(name): Scheme.parse(str(text)) for name, text in written.items()}
