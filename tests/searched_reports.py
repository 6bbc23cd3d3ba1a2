"""Reports of searches, made up: a network of many layers with long names, and what a search says of it."""

from random import Random

from tersor.autoscheduler.report import (
    Ablation,
    Certificate,
    Evaluation,
    RatedPlan,
    SearchCell,
    SearchedLayer,
    SearchedTensor,
    SearchReport,
    Spent,
    Transfer,
)
from tersor.cost import Cost
from tersor.fallback import Fallback
from tersor.scheduler.contract import Contract
from tersor.scheme import Scheme

SCHEMES = tuple(
    map(
        Scheme.parse, ("int8", "w4a8", "w4a4", "w2a8", "int8+2:4", "w4a8+2:4", "int8+rank16", "int8+sparse50")
    )
)
SPEED = (1.0, 0.94, 0.55, 0.9, 0.6, 0.58, 0.5, 0.7)  # of a scheme's time, energy and loss beside int8's
THRIFT = (1.0, 0.72, 0.5, 0.6, 0.66, 0.5, 0.55, 0.68)
BYTES = (1.0, 0.5, 0.5, 0.25, 0.63, 0.38, 0.45, 0.63)
HARM = (1.0, 14.0, 60.0, 400.0, 25.0, 80.0, 300.0, 18.0)


def names(count: int) -> list[str]:
    """Names as exporters write them, one of them hostile to HTML."""
    parts = ("expand.conv", "depthwise.conv", "project.conv", "squeeze_excite.reduce")
    found = [f"features.stage{i // 8}.block{i // 4 % 2}.{parts[i % 4]}.weight" for i in range(count)]
    found[1 % count] = "onnx::Conv_<script>alert('1')</script>&\"quoted\"_" + "very_long_" * 6 + "weight"
    return found


def report(count: int = 24, *, seed: int = 0) -> SearchReport:
    """A search over `count` layers that chose one scheme for each at random."""
    random = Random(seed)
    layers, cells = [], []
    for place, name in enumerate(names(count)):
        unit = Cost(
            seconds=random.uniform(1e-5, 4e-4) / (1 + place % 4),
            energy=random.uniform(1e5, 8e6),
            size=random.randrange(500, 300_000),
        )
        noise = 10 ** random.uniform(-6, -4)
        legal = []
        for turn, scheme in enumerate(SCHEMES):
            cost = Cost(
                unit.seconds * SPEED[turn], unit.energy * THRIFT[turn], {}, int(unit.size * BYTES[turn])
            )
            if place % 4 == 1 and (scheme.factor or scheme.sparsity):
                reason = f"a depthwise convolution has no rows of <4> weights for {scheme} & its like"
                cells.append(SearchCell(name, scheme, reason=reason))
            else:
                loss = noise * HARM[turn] * random.uniform(0.5, 2)
                cells.append(SearchCell(name, scheme, loss, cost))
                legal.append((scheme, cost, loss))
        scheme, cost, loss = random.choice(legal)
        mapping = "dram: K=4 P=7\n  buffer: C=16 Q=7\n    array: K=16 C=8"
        layers.append(SearchedLayer(name, scheme, cost, unit, loss, mapping=mapping))
    total = sum((layer.cost for layer in layers), start=Cost())
    uniform = sum((layer.baseline or Cost() for layer in layers), start=Cost())
    plans = [
        RatedPlan("chosen", total, 0.42, "final"),
        RatedPlan("uniform int8", uniform, 0.05, "final", baseline=True),
        RatedPlan(
            "fp32", Cost(uniform.seconds * 3.1, uniform.energy * 4, {}, uniform.size * 4), 0.0, "final", True
        ),
    ]
    for step in range(11):
        scale = 1.15 - 0.06 * step
        cost = Cost(total.seconds * scale, total.energy * scale**1.5, {}, int(total.size * scale))
        known = "evaluated" if step % 3 == 0 else "predicted"
        plans.append(RatedPlan(f"front-{step:02d}", cost, 0.1 + 0.02 * step**2, known))
    evaluations = tuple(
        Evaluation(
            f"try {turn}", "exact", 60.0 + 21.5 * turn, 14.2 + turn / 3,
            Cost(total.seconds * (1.2 - 0.03 * turn), total.energy * (1.3 - 0.04 * turn), {}, total.size),
            0.9 * abs(4 - turn) / 4 + 0.2, 1e-3 * (turn + 1), 1.3e-3 * (turn + 1), 2000,
        )
        for turn in range(8)
    )  # fmt: skip
    spent = ("import", 2.1), ("calibration", 11.0), ("evaluation module", 9.5), ("mapping", 71.3), (
        "sensitivity", 55.0), ("evaluations", 122.9), ("compiling and measuring", 22.4)  # fmt: skip
    ablations = (
        Ablation("mapping only", uniform, 0.05),
        Ablation(
            "uniform", Cost(uniform.seconds * 0.9, uniform.energy * 0.85, {}, uniform.size // 2), 0.4, 4
        ),
        Ablation("sequential", Cost(total.seconds * 1.2, total.energy * 1.19, {}, total.size), 0.44, 8),
        Ablation("joint", total, 0.42, 8),
    )
    machines = ("edge", "bitfusion", "eyeriss")
    transfers = []
    for i, one in enumerate(machines):
        for j, other in enumerate(machines):
            cost = Cost(total.seconds * (1 + 0.3 * (i != j)), total.energy * (1 + 0.2 * abs(i - j)))
            transfers.append(Transfer(one, other, cost, 0.4 + 0.01 * j, widened=3 * abs(i - j)))
    listing = "\n".join(f"{layer.name}: {layer.scheme}\n{layer.mapping}" for layer in layers)
    return SearchReport(
        model="efficientnet_lite0",
        hardware="edge",
        strategy="exact",
        seed=7,
        contract=Contract("energy", 0.5, uniform.seconds, None, uniform.size, 300.0),
        samples=2000,
        has_labels=True,
        chosen="chosen",
        plans=tuple(plans),
        layers=tuple(layers),
        cells=tuple(cells),
        fallbacks=(Fallback("nn.conv3d", "head<0>.weight", "three dimensions & no kernel"),),
        certificate=Certificate("energy", total.energy, total.energy * 0.9968, 8**count),
        evaluations=evaluations,
        spent=tuple(Spent(*each) for each in spent),
        ablations=ablations,
        transfers=tuple(transfers),
        listing=listing,
        tensors=(
            SearchedTensor(layers[0].name, (layers[1].name, layers[-1].name), 18_496, 34_880),
            SearchedTensor(layers[1].name, (layers[-1].name,), 65_536, 0, "65536 bytes do not fit <buffer>"),
        ),
    )
