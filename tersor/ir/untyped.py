"""TVM's modules as `Any`: tvm ships no types, and what a checker infers of them is wrong."""

from typing import Any

import tvm as _tvm
from tvm import relax as _relax
from tvm import s_tir as _s_tir
from tvm import te as _te
from tvm import tirx as _tirx

tvm: Any = _tvm
relax: Any = _relax
s_tir: Any = _s_tir
te: Any = _te
tirx: Any = _tirx
