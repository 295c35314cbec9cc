"""Jobs, run as `python -m recipes.NAME`; experiments are in `papers` and `benchmarks`."""

import os
import sys

# Before TensorFlow is imported: its start-up log is longer than what a recipe prints. Say
# TF_CPP_MIN_LOG_LEVEL=0 to see it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Also before: TensorFlow turns oneDNN on by itself only where the CPU has AVX-512. Without it,
# training takes two to six times as long, and grouped convolutions have no gradient at all.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from recipes import command

# Names from before the folders, which lead to the new ones until version 0.2.
MOVED = {
    "accuracy": "lab.accuracies",
    "attentional_weights": "papers.attentional_weights",
    "benchmark_aw_conv": "benchmarks.aw_conv",
    "benchmark_mobile": "benchmarks.mobile",
    "benchmark_models": "benchmarks.models",
    "comparison": "lab.comparison",
    "fmmnet": "papers.fmmnet",
    "importance_agreement": "papers.importance_agreement",
    "interleaved": "benchmarks.timing",
    "landscape": "papers.landscape",
    "mixup_regularization": "papers.mixup_regularization",
    "model_table": "papers.model_table",
    "multiplication_is_the_key": "papers.multiplication_is_the_key",
    "quantization": "benchmarks.quantization",
    "report": "lab.report",
    "sensitivity": "papers.sensitivity",
    "settings": "lab.settings",
    "trials": "lab.trials",
    "verdicts": "lab.verdicts",
}
_name, _words = command.words()
# Where a host of several is lost, JAX's log says more than the error.
if _name and os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3" and "--hosts" not in _words:
    command.drop_logs()
# An old name is one that the package finds.
if _name and _name.removeprefix("recipes.") not in MOVED and command.asks_for_help(_words):
    sys.meta_path.insert(0, command.StandIns())

from keras_fmm import deprecated  # noqa: E402

deprecated.modules({f"recipes.{old}": f"recipes.{new}" for old, new in MOVED.items()})
