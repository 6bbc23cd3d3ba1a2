"""Import a PyTorch module by torch.export, in canonical form, and compare it with PyTorch's own output.

torch is imported only here and in what is called from here, and only when a module is given.
"""

import contextlib
import copy
import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from tersor.error import UserError
from tersor.frontend.graph import first_line
from tersor.frontend.verification import TOLERANCE, relative_error, run_plainly
from tersor.passes.canonicalize import Canonicalize

Array = NDArray[Any]
Run = Callable[[tvm.IRModule, Mapping[str, Array]], Sequence[Array]]
Examples = Sequence[Any] | Mapping[str, Any]
DTYPES = ("float32", "int64", "int32", "uint8", "int8", "bool")


@dataclass(frozen=True)
class TorchImport:
    """A module of PyTorch as a Relax module, with inputs and the outputs PyTorch gives for them."""

    name: str
    mod: tvm.IRModule
    inputs: dict[str, Array]
    reference: dict[str, Array]  # by the outputs' names, in their order

    def verify(self, run: Run = run_plainly) -> float:
        """Return the largest |error| / max |reference| over the outputs, at most 1e-4.

        `run(mod, inputs)` returns the outputs in order and defaults to plain llvm code. Raises UserError
        naming the first output that differs.
        """
        try:
            results = run(self.mod, self.inputs)
        except UserError:
            raise
        except Exception as error:  # operators that TVM imports and then cannot lower
            raise UserError(f"the imported module cannot be compiled: {first_line(error)}") from error
        worst = 0.0
        for (name, expected), result in zip(self.reference.items(), results, strict=True):
            error = relative_error(result, expected)
            if not error <= TOLERANCE:
                raise UserError(
                    "the imported module computes something else than PyTorch: the first output that differs "
                    f"is {name!r}, by {error:.2g} of its largest value (allowed: {TOLERANCE:g})"
                )
            worst = max(worst, error)
        return worst


def is_torch_module(source: object) -> bool:
    """Whether `source` is a torch.nn.Module, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


def import_torch(module: Any, example_inputs: Examples) -> TorchImport:
    """Import a torch.nn.Module in inference mode, with the static shapes of the example inputs.

    `example_inputs` are tensors, a tuple in the order of `forward` or a dictionary by its names, which become
    the names of the inputs. Weights are named as in the state dict; of nested outputs the tensors are taken
    in order. Examples that are constant everywhere (`torch.zeros`) tell nothing: PyTorch's output is then
    taken for seeded unit normals of the same shape.

    Raises UserError without torch, for inputs that do not fit, for what torch.export cannot trace, and naming
    the operator for what TVM cannot import.
    """
    torch = _torch()
    if not isinstance(module, torch.nn.Module):
        raise UserError(f"expected a torch.nn.Module, got a {type(module).__name__}")
    if isinstance(module, torch.jit.ScriptModule):
        raise UserError("a ScriptModule cannot be traced: give the torch.nn.Module that it was made from")
    module = _in_inference_mode(module)
    bound = _bound(module, example_inputs)
    _check_tensors(module, bound.arguments)
    from tersor.frontend.torch_importer import to_relax

    with _quiet(torch):
        program = _exported(torch, module, bound)
        try:
            imported = to_relax(program)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"the module cannot be imported: {first_line(error)}") from error
        telling = _telling(torch, bound)
        reference = _outputs(torch, module, telling)
    canonicalize: Any = Canonicalize()  # a Pass, which only the decorator knows
    mod = canonicalize(imported)
    count = int(mod["main"].attrs["num_input"])
    names = [var.name for var in mod["main"].params[:count]]
    values = [array for value in telling.arguments.values() for array in _leaves(value)]
    inputs = {name: _numpy(value) for name, value in zip(names, values, strict=True)}
    return TorchImport(type(module).__name__, mod, inputs, reference)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise UserError("importing PyTorch modules needs torch: pip install 'tersor[torch]'") from error
    return torch


def _in_inference_mode(module: Any) -> Any:
    """Give the module, or a copy where any part of it is in training mode."""
    if not any(part.training for part in module.modules()):
        return module
    try:
        return copy.deepcopy(module).eval()
    except Exception as error:
        raise UserError(
            f"the module is in training mode and cannot be copied ({first_line(error)}): call eval() on it"
        ) from error


def _bound(module: Any, examples: Examples) -> inspect.BoundArguments:
    signature = inspect.signature(module.forward)
    try:
        if isinstance(examples, Mapping):
            return signature.bind(**examples)
        if isinstance(examples, list | tuple):
            return signature.bind(*examples)
    except TypeError as error:
        names = ", ".join(signature.parameters)
        raise UserError(f"example_inputs do not fit forward({names}): {first_line(error)}") from error
    raise UserError(
        f"example_inputs are a {type(examples).__name__}: give a tuple of tensors, or a dictionary by the "
        "names of forward's arguments"
    )


def _leaves(value: Any) -> list[Any]:
    """Give the tensors of an argument; one that stands for several (*args, **kwargs) holds them in order."""
    if isinstance(value, tuple):
        return list(value)
    return list(value.values()) if isinstance(value, dict) else [value]


def _check_tensors(module: Any, arguments: Mapping[str, Any]) -> None:
    torch = _torch()
    for name, value in arguments.items():
        for leaf in _leaves(value):
            if not isinstance(leaf, torch.Tensor):
                raise UserError(f"the example input {name!r} is a {type(leaf).__name__}: give a tensor")
            if (dtype := _dtype(leaf)) not in DTYPES:
                raise UserError(f"the example input {name!r} is {dtype}: give one of {', '.join(DTYPES)}")
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and _dtype(tensor) != "float32":
            raise UserError(f"the weight {name!r} is {_dtype(tensor)}: call the module's float() first")


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


@contextlib.contextmanager
def _quiet(torch: Any) -> Iterator[None]:
    """Without warnings, torch's log of errors that we name, and PyTorch's fused encoder layer."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one opaque operator otherwise
    logged = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        logging.disable(logged)


def _exported(torch: Any, module: Any, bound: inspect.BoundArguments) -> Any:
    try:
        return torch.export.export(module, bound.args, bound.kwargs)
    except Exception as error:
        raise UserError(f"torch.export cannot trace the module: {first_line(error)}") from error


def _telling(torch: Any, bound: inspect.BoundArguments) -> inspect.BoundArguments:
    generator = torch.Generator().manual_seed(0)

    def drawn(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(drawn(leaf) for leaf in value)
        if isinstance(value, dict):
            return {name: drawn(leaf) for name, leaf in value.items()}
        constant = (
            value.is_floating_point() and value.numel() > 1 and bool((value == value.flatten()[0]).all())
        )
        return torch.randn(value.shape, generator=generator) if constant else value

    arguments = {name: drawn(value) for name, value in bound.arguments.items()}
    return inspect.BoundArguments(bound.signature, arguments)  # pyright: ignore[reportArgumentType]


def _outputs(torch: Any, module: Any, bound: inspect.BoundArguments) -> dict[str, Array]:
    """Run the module; the tensors of its result by their keys, or numbered where they have none."""
    result = module(*copy.deepcopy(bound.args), **copy.deepcopy(bound.kwargs))
    leaves, _ = torch.utils._pytree.tree_flatten_with_path(result)
    tensors = [(path, leaf) for path, leaf in leaves if isinstance(leaf, torch.Tensor)]
    named = [str(path[-1].key) if path and hasattr(path[-1], "key") else "" for path, _ in tensors]
    unique = len(set(named)) == len(named) and all(named)
    names = named if unique else [f"output{i}" for i in range(len(tensors))]
    return {name: _numpy(leaf) for name, (_, leaf) in zip(names, tensors, strict=True)}


def _numpy(tensor: Any) -> Array:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
