"""Offload: the parts of a network that an accelerator runs, as functions that TVM calls (BYOC).

patterns, refusals    what the machine is given, and why the rest stays on the CPU
partition             composite functions of Relax, neighbours merged
region, codegen       what becomes of them: programs and where their tensors are, behind `relax.ext.tersor`
execution             the function that runs them
"""
