"""Walk: one pass over a program that applies at most one rule to each binding."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tersor.ir.graph import Array, Expr, operands, operator, rebind
from tersor.passes.canonicalize.program import Program, pruned

TUPLE_ITEM = "tuple item"  # under which the rules for an item of a tuple stand, which no operator makes
Rule = Callable[["Walk", Expr], Expr | None]  # what replaces a call, or None where the rule does not apply


@dataclass
class Walk:
    """One walk over the bindings that applies at most one rule to each."""

    old: Program
    rules: Mapping[str, Sequence[Rule]]  # by operator; the first that applies is it
    changed: bool = False
    weights: dict[Expr, Array] = field(default_factory=dict)
    bindings: list[tuple[Expr, Expr]] = field(default_factory=list)
    values: dict[Expr, Expr] = field(default_factory=dict)
    definitions: dict[Expr, Expr] = field(default_factory=dict)
    uses: Counter[Expr] = field(default_factory=Counter)
    norm_scales: dict[Expr, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.builder = relax.BlockBuilder()
        self.weights = dict(self.old.weights)
        self.norm_scales = dict(self.old.norm_scales)

    def run(self) -> tuple[Program, bool]:
        """Give the rewritten program, and whether any rule applied."""
        count = Counter(v for _, value in self.old.bindings for v in operands(value))
        count.update(v for output in self.old.outputs for v in operands(output))
        for var, value in self.old.bindings:
            new = self.rewrite(rebind(value, self.values))
            self.values[var] = new
            if isinstance(new, relax.Var):
                # A var that stands for two old ones has the readers of both, less the alias itself.
                self.uses[new] += count[var] - (1 if new in self.uses else 0)
        outputs = [rebind(output, self.values) for output in self.old.outputs]
        program = Program(self.old.inputs, self.weights, self.bindings, outputs, self.norm_scales)
        return pruned(program), self.changed

    def rewrite(self, value: Expr) -> Expr:
        """Emit what a binding becomes and give its variable, or the variable or constant that it is."""
        if isinstance(value, relax.Var | relax.Tuple | tvm.ir.GenericConst):
            return value
        name = TUPLE_ITEM if isinstance(value, relax.TupleGetItem) else operator(value)
        if name in self.rules:
            value = self.builder.normalize(value)
        for rule in self.rules.get(name, ()):
            new = rule(self, value)
            if new is not None:
                self.changed = True
                return new if isinstance(new, relax.Var | tvm.ir.GenericConst) else self.emit(new)
        return self.emit(value)

    def emit(self, value: Expr) -> Expr:
        """Bind an expression and give its variable."""
        value = self.builder.normalize(value)
        var = relax.DataflowVar("lv", value.ty)
        self.bindings.append((var, value))
        self.definitions[var] = value
        return var

    def emit_inner(self, value: Expr) -> Expr:
        """Bind an expression that only the result of the rule will read."""
        var = self.emit(value)
        self.uses[var] = 1
        return var

    # What the rules ask.

    def array(self, expr: Expr) -> Array | None:
        """Return the value of a weight or constant."""
        if isinstance(expr, tvm.ir.GenericConst):
            tensor: Any = expr
            return tensor.value.numpy()
        return self.weights.get(expr) if isinstance(expr, relax.Var) else None

    def definition(self, expr: Expr, *names: str) -> Expr | None:
        """Return the call of one of these operators that makes `expr`."""
        call: Expr = self.definitions.get(expr) if isinstance(expr, relax.Var) else None
        return call if operator(call) in names else None

    def read_once(self, expr: Expr) -> bool:
        """Whether one expression reads it, once, and the program does not return it."""
        return self.uses[expr] == 1

    def weight(self, array: Array, name: str) -> Expr:
        """Make a weight, or find the one that an equal layer of this round has made under this name."""
        for var, other in self.weights.items():
            if var.name == name and var not in self.old.weights and np.array_equal(other, array):
                return var
        var = relax.Var(name, relax.TensorType(list(array.shape), str(array.dtype)))
        self.weights[var] = array
        return var
