"""Codegen: regions become functions of a library, which hand their programs and tensors to the executor.

`relax.ext.tersor` is what TVM's RunCodegen calls. The machine's description and each region are in the
library as JSON. A library says in one sentence what to do where no executor is registered.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tersor.document import parse_json, to_json
from tersor.hardware import Hardware
from tersor.ir.graph import Expr, Module, shape_of
from tersor.ir.untyped import relax, tvm
from tersor.targets.accelerator.offload.partition import COMPILER, TASK
from tersor.targets.accelerator.offload.region import Region, Step, Task

EXECUTOR = "tersor.accelerator.run"
NO_EXECUTOR = "this library runs on a simulated accelerator: `import tersor` in Python before it is called"

# The registry of functions is asked by its C interface, which has no stable address but a name: with neither
# an executor nor that name there TVM says itself which function it did not find.
_INSTRUCTIONS = """
@tersor_getter = private constant [24 x i8] c"TVMFFIFunctionGetGlobal\\00"
@tersor_release = private constant [19 x i8] c"TVMFFIObjectDecRef\\00"
@tersor_executor = private constant [LENGTH x i8] c"EXECUTOR"

declare ptr @dlsym(ptr, ptr)

define hidden i32 @tersor_has_executor() {
  %name = alloca { ptr, i64 }
  %found = alloca ptr
  %getter = call ptr @dlsym(ptr null, ptr @tersor_getter)
  %release = call ptr @dlsym(ptr null, ptr @tersor_release)
  %no_getter = icmp eq ptr %getter, null
  %no_release = icmp eq ptr %release, null
  %unknown = or i1 %no_getter, %no_release
  br i1 %unknown, label %present, label %ask
ask:
  store ptr @tersor_executor, ptr %name
  %length = getelementptr { ptr, i64 }, ptr %name, i32 0, i32 1
  store i64 LENGTH, ptr %length
  store ptr null, ptr %found
  %error = call i32 %getter(ptr %name, ptr %found)
  %function = load ptr, ptr %found
  %missing = icmp eq ptr %function, null
  br i1 %missing, label %absent, label %done
done:
  %ignored = call i32 %release(ptr %function)
  br label %present
present:
  ret i32 1
absent:
  ret i32 0
}
""".replace("LENGTH", str(len(EXECUTOR))).replace("EXECUTOR", EXECUTOR)


@tvm.register_global_func("relax.ext.tersor")
def generate(functions: Sequence[Any], options: Any, _constants: Any) -> list[Any]:
    """Make one library of all regions of a module; `options` has the machine's description as JSON."""
    hardware = str(options["hardware"])
    callers = {
        str(function.attrs["global_symbol"]): _caller(
            str(function.attrs["global_symbol"]), function, region_of(function), hardware
        )
        for function in functions
    }
    # Compiled for the least that its CPU has: nothing is computed there.
    least = tvm.target.Target({"kind": "llvm", "opt-level": 0})
    return [tvm.tirx.build(tvm.IRModule(callers), target=least)]


def run_codegen(mod: Module, hardware: Hardware) -> Module:
    """Let TVM replace the regions of a module by calls into the library that `generate` makes."""
    options = {COMPILER: {"hardware": to_json(hardware, Hardware)}}
    return relax.transform.RunCodegen(options)(mod)


def region_of(function: Any) -> Region:
    """Read the steps of a merged function, whose composites are functions inside of it."""
    numbers: dict[Expr, int] = {var: i for i, var in enumerate(function.params)}
    composites: dict[Expr, Any] = {}
    steps: list[Step] = []
    tuples: dict[Expr, Expr] = {}
    for var, value in _bindings(function):
        match value:
            case relax.Function():
                composites[var] = value
            case relax.Call():
                task = parse_json(str(composites[value.op].attrs[TASK]), Task, "a task")
                numbers[var] = len(function.params) + len(steps)
                steps.append(Step(task, tuple(numbers[each] for each in value.args), shape_of(var)))
            case relax.Tuple():
                tuples[var] = value
            case _:
                numbers[var] = numbers[value]
    result = tuples.get(function.body.body, function.body.body)
    results = result.fields if isinstance(result, relax.Tuple) else [result]
    return Region(len(function.params), tuple(steps), tuple(numbers[each] for each in results))


def _bindings(function: Any) -> Iterable[tuple[Expr, Expr]]:
    return [(each.var, each.value) for block in function.body.blocks for each in block.bindings]


def _caller(symbol: str, function: Any, region: Region, hardware: str) -> Any:
    """Build the PrimFunc that has a region executed."""
    result = function.ret_ty
    types = [param.ty for param in function.params]
    results = list(result.fields) if isinstance(result, relax.TupleType) else [result]
    with IRBuilder() as builder, T.prim_func(s_tir=True, private=True):
        T.func_name(symbol)
        T.func_attr({"tirx.is_scheduled": True})
        buffers = [_argument(f"a{i}", each) for i, each in enumerate(types)]
        outputs = [_argument(f"out{i}", each) for i, each in enumerate(results)]
        with T.sblock("root"):
            T.reads(*map(_whole, buffers))
            T.writes(*map(_whole, outputs))
            with T.attr(T.int32(0), "pragma_import_llvm", _INSTRUCTIONS):
                with T.Assert(T.call_extern("int32", "tersor_has_executor") != 0, NO_EXECUTOR):
                    T.evaluate(T.int32(0))
                described = to_json(region, Region)
                T.evaluate(T.call_packed(EXECUTOR, hardware, described, *buffers, *outputs))
    caller: Any = builder.get()
    return caller.with_attr("global_symbol", symbol)


def _argument(name: str, type: Any) -> Any:
    return T.arg(name, T.Buffer([int(extent) for extent in type.shape], str(type.dtype)))


def _whole(buffer: Any) -> Any:
    return buffer[tuple(slice(0, int(extent)) for extent in buffer.shape)]
