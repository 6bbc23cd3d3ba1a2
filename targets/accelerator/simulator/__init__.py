"""The accelerator runs: programs executed on real data, with the values, accesses and cycles of one run.

tensors, stored       what lies in the outermost memory
decode, sharing       a program as flat tables
interpreter           walks over it: fetching, transfers, products (values), counting, clock (cycles)
vector                programs of the vector unit, tile by tile
epilogue, simulation  from complete sums to the output and the result

It obeys the rules in `tersor.targets.accelerator.counts`, but shares no code with the analytic model.
"""
