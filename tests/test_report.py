"""The report: what it says to a person, and its JSON."""

from dataclasses import replace
from pathlib import Path

import pytest

from tersor.buckets import Bucket, Buckets, TensorSpec
from tersor.document import read_json, to_json, write_json
from tersor.error import UserError
from tersor.fallback import Fallback
from tersor.report import LayerReport, Report, Totals

LAYERS = (
    LayerReport("conv1.weight", "int8", "conv2d int8 avx2", 1_000, 31.25),
    LayerReport("fc.weight", "fp32", "scheduled float32", 4_000, None, "too few outputs"),
)
TOTALS = Totals(
    bytes_fp32=20_000,
    bytes=5_000,
    file_bytes=9_000,
    samples=8,
    agreement=0.875,
    snr_db=28.5,
    latency_ms_fp32=3.0,
    latency_ms=1.5,
    accuracy_fp32=0.75,
    accuracy=0.5,
)
Y = TensorSpec("y", (1, 10), "float32")
REPORT = Report(
    "net",
    "cpu-avx2",
    Buckets((Bucket("main", (TensorSpec("x", (1, 3, 8, 8), "float32"),), (Y,)),)),
    LAYERS,
    TOTALS,
    (Fallback("nn.conv3d", "conv3.weight", "three dimensions"),),
)


def test_the_table_says_what_was_done_and_what_it_brought() -> None:
    text = REPORT.text()
    for expected in (
        "conv1.weight",
        "31.2",
        "0.250x",
        "2.00x faster",
        "-25.00 points",
        "87.50 %",
        "28.50 dB",
    ):
        assert expected in text, expected
    assert "fc.weight is fp32: too few outputs" in text
    assert "conv3.weight (nn.conv3d) stays fp32: three dimensions" in text


def test_a_compressed_network_may_be_slower() -> None:
    slower = replace(TOTALS, latency_ms=6.0)
    assert "2.00x slower" in replace(REPORT, totals=slower).text()


def test_what_is_decoded_takes_more_memory_than_is_stored() -> None:
    layer = replace(REPORT.layers[0], bytes=1000, kernel_bytes=2048)
    text = replace(REPORT, layers=(layer,), totals=replace(TOTALS, bytes=1000, kernel_bytes=2048)).text()
    assert "1,000 > 2,048" in text
    assert "read by kernels" in text
    assert "read by kernels" not in REPORT.text()


def test_what_was_not_measured_has_no_row() -> None:
    text = replace(REPORT, totals=Totals(bytes_fp32=8, bytes=2)).text()
    for absent in ("latency", "accuracy", "agreement", "library"):
        assert absent not in text


def test_the_text_keeps_its_width() -> None:
    assert max(map(len, REPORT.text(60).splitlines())) <= 60


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "report.json", REPORT, Report)
    assert read_json(tmp_path / "report.json", Report) == REPORT


def test_a_report_of_another_program_is_refused(tmp_path: Path) -> None:
    other = to_json(REPORT, Report).replace('"totals"', '"sums"')
    (tmp_path / "report.json").write_text(other)
    with pytest.raises(UserError, match=r"totals|sums"):
        read_json(tmp_path / "report.json", Report)
