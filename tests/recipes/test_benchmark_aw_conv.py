import json
import math

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("times TensorFlow's functions", allow_module_level=True)

from recipes import benchmark_aw_conv


def test_every_implementation_is_measured_in_every_mode_but_one(tmp_path, capsys):
    output = tmp_path / "results" / "benchmark.json"
    results = benchmark_aw_conv.main(benchmark_aw_conv.Settings(smoke=True, output=str(output)))
    assert json.loads(output.read_text()) == results
    ratios = results["ratios"]
    assert tuple(ratios) == benchmark_aw_conv.MODES
    for mode, rows in ratios.items():
        expected = set(benchmark_aw_conv.IMPLEMENTATIONS)
        assert set(rows) == (expected - {"vectorized_map"} if "XLA" in mode else expected)
        for row in rows.values():
            assert all(math.isfinite(ratio) and ratio > 0 for ratio in row.values())
    assert "inference, factored" in capsys.readouterr().out
