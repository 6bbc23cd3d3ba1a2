"""tersor compress: a model and data become a directory with a library, its plan and its report."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from tersor.autoscheduler.driver import search
from tersor.autoscheduler.result import Searched
from tersor.began import BEGAN
from tersor.buckets import Buckets
from tersor.cli.contract import (
    Ablations,
    Also,
    Effort,
    MaxDrop,
    MaxEnergy,
    MaxLatency,
    MaxSize,
    Minimize,
    Search,
    Seed,
    TimeBudget,
    accelerator_of,
    check_alone,
    check_searched,
    contract_of,
    found_words,
    settings_of,
)
from tersor.cli.options import (
    Batch,
    Crop,
    Data,
    Layout,
    Mean,
    Resize,
    Shapes,
    Std,
    parse_batch,
    parse_preprocessing,
    parse_shapes,
)
from tersor.cli.progress import progress_bar
from tersor.compiler import compile, load_model
from tersor.config import Config
from tersor.data import Samples, load_samples
from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.plan import Plan
from tersor.preprocessing import Preprocessing
from tersor.preset import preset as preset_config
from tersor.recipe import Calibration, Criterion, Rounding
from tersor.replace import check_writable
from tersor.targets.cpu.host.detect import detect, hardware

Objective = Literal["seconds", "size"]  # of a CPU no energies are known
JOURNAL = "search.sqlite"  # in the output directory


def compress(
    model: Annotated[Path, typer.Argument(help="The ONNX model.")],
    data: Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the library, plan and report go.")],
    shape: Shapes = None,
    batch: Batch = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output", metavar="NAME", help="A tensor to be an output, instead of the model's. Repeatable."
        ),
    ] = None,
    calibration_samples: Annotated[int, typer.Option(min=1, help="How many samples calibrate.")] = 128,
    eval: Annotated[
        str | None,
        typer.Option(
            "--eval", metavar="NPZ|DIR", help="Samples to compare with fp32 on (default: the rest of --data)."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="CSV|filename",
            help="Classes of images: a CSV file with the columns file and class, or `filename` for the last "
            "number in each name. A .npz holds its own as the array `labels`.",
        ),
    ] = None,
    scheme: Annotated[
        str | None, typer.Option(help="For every layer: int8 (default), fp32, int8+2:4, ..., or auto.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="A scheme and a recipe by name: see `tersor presets`.")
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON|TOML", help="Schemes for layers by name or kind, with wildcards, and a recipe."
        ),
    ] = None,
    plan: Annotated[Path | None, typer.Option(metavar="JSON", help="Carry out this plan instead.")] = None,
    min_snr: Annotated[
        float | None, typer.Option(metavar="dB", help="What auto must leave of the signal (default: 30).")
    ] = None,
    objective: Annotated[
        Objective | None, typer.Option(help="What auto makes least (default: seconds).")
    ] = None,
    calibration: Annotated[
        Calibration | None, typer.Option(help="How activation ranges are chosen (default: mse).")
    ] = None,
    rounding: Annotated[
        Rounding | None,
        typer.Option(
            help="How weights find their codes (default: nearest; under a contract, for an accelerator, "
            "gptq); gptq, adaround, entropy by the data."
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="By what part of a layer's output a bit lowers the noise, for entropy (default: 3e-7).",
        ),
    ] = None,
    bias_correction: Annotated[
        bool | None,
        typer.Option(
            "--bias-correction/--no-bias-correction",
            help="Biases take up the mean error of rounded weights (default).",
        ),
    ] = None,
    equalize: Annotated[
        bool | None,
        typer.Option("--equalize/--no-equalize", help="Bring neighbouring layers' weights to like ranges."),
    ] = None,
    smooth: Annotated[
        float | None,
        typer.Option(
            metavar="0..1", help="How much of the spread of a layer's input goes into weights (default: 0)."
        ),
    ] = None,
    criterion: Annotated[
        Criterion | None, typer.Option(help="Which weights are dropped (default: magnitude).")
    ] = None,
    repair: Annotated[
        bool | None,
        typer.Option("--repair/--no-repair", help="Fit what is kept to the data (default)."),
    ] = None,
    isa: Annotated[
        str | None, typer.Option(metavar="NAME", help="Instruction set, at most the CPU's own (default).")
    ] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores to share the work (default: all).")] = None,
    race: Annotated[
        bool, typer.Option(help="Leave in fp32 what integers make slower on this machine, by timing it.")
    ] = True,
    machine: Annotated[
        Path | None,
        typer.Option("--hardware", metavar="FILE", help="An accelerator that runs what it can."),
    ] = None,
    max_drop: MaxDrop = None,
    max_latency: MaxLatency = None,
    max_energy: MaxEnergy = None,
    max_size: MaxSize = None,
    minimize: Minimize = None,
    budget: TimeBudget = None,
    strategy: Search = None,
    seed: Seed = None,
    effort: Effort = None,
    ablations: Ablations = None,
    also: Also = None,
    resize: Resize = None,
    crop: Crop = None,
    mean: Mean = "0",
    std: Std = "1",
    layout: Layout = "NCHW",
) -> int:
    """Compress an ONNX model: writes model.so, plan.json and a report, and prints the report.

    With a contract (--max-drop, --max-latency, --max-energy, --max-size, --minimize, --budget) it searches
    for the plan. It exits with 1 if none keeps the contract: then the closest is written.
    """
    algorithms = {
        "calibration": calibration,
        "rounding": rounding,
        "rate": rate,
        "bias_correction": bias_correction,
        "equalize": equalize,
        "smooth": smooth,
        "criterion": criterion,
        "repair": repair,
    }
    request = request_of(plan, scheme, min_snr, objective, algorithms, preset, rules)
    accelerator = accelerator_of(machine)
    if accelerator is not None and (isa or cores):
        raise UserError("--hardware says what runs the network: leave out --isa and --cores")
    contract = contract_of(max_drop, max_latency, max_energy, max_size, minimize, budget, accelerator)
    if contract is None:
        check_searched(strategy=strategy, seed=seed, effort=effort, ablations=ablations, also=also or None)
    else:
        check_alone(
            plan=plan, scheme=scheme, preset=preset, rules=rules, min_snr=min_snr, objective=objective
        )
    preprocessing = parse_preprocessing(resize, crop, mean, std, layout)
    shapes, batches = parse_shapes(shape), parse_batch(batch)
    host = accelerator or host_hardware(isa, cores)
    check_writable(out)
    with progress_bar() as show:
        show("importing", 0, None)
        imported = load_model(model, shapes, output, host, batch=batches)
        samples = load_samples(data, imported.buckets, preprocessing, calibration_samples)
        evaluation, which = _evaluation(data, eval, labels, imported.buckets, preprocessing, samples)
        if contract is not None:
            assert isinstance(request, Config)  # a plan leaves nothing to search for
            result = search(
                imported,
                samples,
                contract,
                settings_of(
                    strategy,
                    seed,
                    effort,
                    request.recipe if any(each is not None for each in algorithms.values()) else None,
                    samples.count,
                    out / JOURNAL,
                    ablations,
                    also,
                    accelerator,
                ),
                evaluation=evaluation,
                labels=evaluation.labels,
                started=BEGAN,
                progress=show,
            )
        else:
            result = compile(
                imported,
                samples,
                request,
                calibration_samples=len(samples),
                evaluation=evaluation,
                labels=evaluation.labels,
                progress=show,
                race=race,
            )
        show("writing", 0, None)
        report = result.save(out)
    console = Console(width=None if Console().is_terminal else 120)
    console.print(report)
    console.print(f"calibrated on {samples.count} samples, evaluated on {which}", highlight=False)
    if isinstance(result, Searched):
        for said in found_words(result.report):
            console.print(said, markup=False, highlight=False)
    console.print(f"written to {out}", highlight=False)
    return 0 if not isinstance(result, Searched) or result.report.kept else 1


def request_of(
    plan: Path | None,
    scheme: str | None,
    min_snr: float | None,
    objective: Objective | None,
    algorithms: Mapping[str, object],
    preset: str | None = None,
    rules: Path | None = None,
) -> Plan | Config:
    """Read what is to be done to each layer; `algorithms` are fields of the recipe, None where not given.

    Raises UserError for options that contradict one another.
    """
    algorithms = {name: value for name, value in algorithms.items() if value is not None}
    whole = {"plan": plan, "rules": rules, "preset": preset}
    chosen = {"scheme": scheme, "min-snr": min_snr, "objective": objective}
    # Rules and presets can be carried out by another recipe, a plan says that, too.
    parts = chosen | ({name.replace("_", "-"): value for name, value in algorithms.items()} if plan else {})
    first, *others = [name for name, value in (whole | parts).items() if value is not None] or [""]
    if first in whole and others:
        raise UserError(f"--{first} says all that --{others[0]} would: leave one of them out")
    if plan is not None:
        return Plan.load(plan)
    if rules is not None:
        return _with_recipe(Config.load(rules), algorithms)
    if preset is not None:
        return _with_recipe(preset_config(preset), algorithms)
    if scheme != "auto" and (min_snr is not None or objective is not None):
        raise UserError("--min-snr and --objective are for --scheme auto: add it, or leave them out")
    default = Config()
    try:
        config = Config(
            scheme or default.scheme,
            default.min_snr if min_snr is None else min_snr,
            objective or default.objective,
        )
    except ValueError as error:
        raise UserError(f"--scheme: {error}") from error
    return _with_recipe(config, algorithms)


def _with_recipe(config: Config, algorithms: Mapping[str, Any]) -> Config:
    try:
        return replace(config, recipe=replace(config.recipe, **algorithms)) if algorithms else config
    except ValueError as error:
        raise UserError(f"--{error}") from error


def host_hardware(isa: str | None, cores: int | None) -> Hardware:
    """Describe this CPU, or as much of it as is to be used. Raises UserError."""
    return hardware(detect(isa, cores))


def _evaluation(
    data: str,
    evaluation: str | None,
    labels: str | None,
    buckets: Buckets,
    preprocessing: Preprocessing,
    calibration: Samples,
) -> tuple[Samples, str]:
    """Give the samples to evaluate on, and which they are in words."""
    if evaluation is not None:
        samples = load_samples(evaluation, buckets, preprocessing, labels=labels)
        return samples, f"{samples.count} samples of {evaluation}"
    everything = load_samples(data, buckets, preprocessing, labels=labels)
    if everything.count == calibration.count:
        return everything, f"the same {everything.count}: --data has no others"
    rest = load_samples(data, buckets, preprocessing, labels=labels, skip=calibration.count)
    return rest, f"the {rest.count} others"
