"""The pass: the rules by operator, and walks over the program until none applies."""

import tvm

from tersor.ir.graph import Graph
from tersor.passes.canonicalize import absorb, clips, identities, parts, products, reductions, sequences
from tersor.passes.canonicalize.constants import FOLDABLE, folded, shape_to_tensor
from tersor.passes.canonicalize.program import read, write
from tersor.passes.canonicalize.walk import TUPLE_ITEM, Rule, Walk

RULES: dict[str, tuple[Rule, ...]] = {
    "nn.conv2d": (absorb.without_pad, absorb.without_input_scale),
    "matmul": (products.weight_on_the_right, products.vector_as_matrix, absorb.without_input_scale),
    "add": (absorb.add,),
    "subtract": (absorb.subtract,),
    "multiply": (absorb.multiply,),
    "divide": (absorb.divide,),
    "nn.relu": (clips.bounds,),
    "clip": (clips.bounds,),
    "maximum": (clips.bounds,),
    "minimum": (clips.bounds,),
    "reshape": (identities.reshape,),
    "flatten": (identities.same_shape,),
    "broadcast_to": (identities.same_shape,),
    "nn.pad": (identities.same_shape,),
    "astype": (identities.astype,),
    "permute_dims": (identities.permute_dims,),
    "concat": (identities.concat,),
    "shape_to_tensor": (shape_to_tensor,),
    "strided_slice": (parts.strided_slice,),
    "mean": (reductions.mean,),
    TUPLE_ITEM: (identities.tuple_item, sequences.batch_norm, absorb.batch_norm, parts.split_item),
    "take": (parts.inside_table,),
}
for _name, _rule in sequences.RULES.items():
    RULES[_name] = (*RULES.get(_name, ()), _rule)
for _name in FOLDABLE:
    RULES[_name] = (folded, *RULES.get(_name, ()))


@tvm.transform.module_pass(opt_level=0, name="Canonicalize")
class Canonicalize:
    """Rewrite `main`, a function of one dataflow block, until no rule applies."""

    def transform_module(self, mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
        """Return the module in canonical form."""
        source = Graph(mod)
        program = read(source)
        changed = True
        while changed:
            program, changed = Walk(program, RULES).run()
        return write(program, source)
