# Needs python3 (3.11 or newer) and make; everything else goes into .venv, which has TensorFlow and
# JAX, and for the tests without TensorFlow into .venv-jax and .venv-torch.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# What pip may install; with CONSTRAINTS=/dev/null it takes the newest of everything.
CONSTRAINTS = constraints.txt

# Where Python may not keep what it compiles, each start compiles all of TensorFlow and Keras anew:
# ten seconds of each test that starts a program.
unexport PYTHONDONTWRITEBYTECODE

# Quiet TensorFlow's start; a user who wants its log says TF_CPP_MIN_LOG_LEVEL=0 make ...
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Two test processes: TensorFlow's import is slow and most of a test is one thread of Python.
TEST = $(BIN)/python -m pytest -n 2 --dist worksteal --ignore tests/browser
# What holds on every backend.
BACKEND_TESTS := tests/ops tests/layers tests/models tests/contracts tests/training tests/test_docs.py \
	tests/test_graph.py tests/test_without_tensorflow.py tests/analysis/test_every_backend.py \
	tests/analysis/test_class_scores.py tests/analysis/test_attention_maps.py \
	tests/analysis/saliency/test_grad_cam.py tests/data/test_batches.py tests/plots

.PHONY: demo demo-detection test test-all test-jax test-torch test-oldest test-browser coverage bench report docs tables pictures lint format \
	dist try-wheel clean

demo: $(INSTALLED)
	$(BIN)/python -m recipes.demo

# A detector of digits on canvases, in runs/; three to ten minutes.
demo-detection: $(INSTALLED)
	$(BIN)/python -m recipes.detect

test: $(INSTALLED)
	$(TEST) -m "not slow" $(PYTEST_FLAGS)

test-all: $(INSTALLED)
	$(TEST) $(PYTEST_FLAGS)

# Where TensorFlow is not installed.
test-jax test-torch: BIN = .venv-$(KERAS_BACKEND)/bin
test-jax: export KERAS_BACKEND := jax
# As JAX' own tests do: compiling takes half of the time. With 0 they run as a user's program does.
test-jax: export JAX_DISABLE_MOST_OPTIMIZATIONS ?= 1
# So a kernel takes half as long to compile. Another jaxlib may not know these, and would stop.
ifeq ($(CONSTRAINTS),constraints.txt)
test-jax: export XLA_FLAGS ?= --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1
endif
# All of the detectors' tests would compile for minutes.
test-jax: BACKEND_TESTS += tests/detection/test_modes.py
test-jax: .venv-jax/.installed
	$(TEST) $(BACKEND_TESTS) $(PYTEST_FLAGS)

test-torch: export KERAS_BACKEND := torch
test-torch: BACKEND_TESTS += tests/detection tests/recipes/benchmarks/test_self_attention.py
test-torch: .venv-torch/.installed
	$(TEST) $(BACKEND_TESTS) $(PYTEST_FLAGS)

# On the lowest versions that setup.cfg allows; PYTHON must be a Python 3.11.
test-oldest: BIN = .venv-oldest/bin
test-oldest: .venv-oldest/.installed
	$(TEST) -m "not slow" $(PYTEST_FLAGS)

# The page of recipes.browser in a headless Chromium, which CHROMIUM names, or which is found.
test-browser: $(INSTALLED) recipes/page/node_modules/.package-lock.json
	PIP_CONSTRAINT=$(CONSTRAINTS) $(BIN)/pip install --quiet --no-compile \
		--disable-pip-version-check -e .[browser]
	$(BIN)/python -m pytest tests/browser $(PYTEST_FLAGS)

recipes/page/node_modules/.package-lock.json: recipes/page/package-lock.json
	npm ci --prefix recipes/page --no-audit --no-fund

# Counting lines makes Python half as slow again: not part of `.ci/run`.
coverage: $(INSTALLED)
	rm -f .coverage*
	COVERAGE_FILE=.coverage.tensorflow $(MAKE) test-all PYTEST_FLAGS="--cov --cov-append --cov-report="
	COVERAGE_FILE=.coverage.jax $(MAKE) test-jax PYTEST_FLAGS="--cov --cov-append --cov-report="
	COVERAGE_FILE=.coverage.torch $(MAKE) test-torch PYTEST_FLAGS="--cov --cov-append --cov-report="
	$(BIN)/coverage combine -q .coverage.tensorflow .coverage.jax .coverage.torch
	$(BIN)/coverage report

# Wants the machine to itself.
bench: $(INSTALLED)
	$(BIN)/python -m recipes.benchmarks.aw_conv
	$(BIN)/python -m recipes.benchmarks.models
	$(BIN)/python -m recipes.benchmarks.first_step

report: $(INSTALLED)
	$(BIN)/python -m recipes.lab.report

# Into docs/_build/html, from nothing, as Sphinx warns of a page only when it makes it anew; a
# warning is an error.
docs: $(INSTALLED)
	rm -rf docs/_build $(wildcard docs/api/*/)
	$(BIN)/sphinx-build -b html -j 2 -W --keep-going -q docs docs/_build/html

# The tables of layers, in README and docs/layers.md.
tables: $(INSTALLED)
	$(BIN)/python -m docs.tables

# The documentation's pictures, from the code of its guides.
pictures: $(INSTALLED)
	$(BIN)/python -m docs.pictures

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The wheel and the source archive, into dist/, checked as far as that goes without uploading them.
dist: export PIP_CONSTRAINT = $(CONSTRAINTS)
dist: export PIP_BUILD_CONSTRAINT = $(CONSTRAINTS)
dist: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build . >/dev/null
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

# README's first example where nothing but the wheel and its extras is installed; run beside the
# checkout, not in it, which would be imported instead.
try-wheel: dist
	$(PYTHON) -m venv --clear .venv-wheel
	PIP_CONSTRAINT=$(CONSTRAINTS) .venv-wheel/bin/pip install --quiet --no-compile \
		--disable-pip-version-check "$$(ls dist/*.whl)[tensorflow,data,mobile]"
	sed -n '/^```python/,/^```$$/{/^```/!p;/^```$$/q}' README.md >.venv-wheel/example.py
	cd .venv-wheel && bin/python example.py && bin/python -c "import keras_fmm; \
		assert 'site-packages' in keras_fmm.__file__"

# The two variables rather than -c: they hold for the build of source packages too, the first in
# pip before 25.3, the second from then on.
.venv-oldest/.installed: CONSTRAINTS = constraints-oldest.txt
.venv-oldest/.installed: constraints-oldest.txt
%/.installed: export PIP_CONSTRAINT = $(CONSTRAINTS)
%/.installed: export PIP_BUILD_CONSTRAINT = $(CONSTRAINTS)
%/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $*
	$*/bin/pip install --quiet --no-compile --disable-pip-version-check -e .[$(EXTRAS)]
	touch $@
.venv/.installed: EXTRAS := all
.venv-jax/.installed: EXTRAS := jax,mobile,plots,test
.venv-torch/.installed: EXTRAS := torch,plots,test
.venv-oldest/.installed: EXTRAS := data,explain,jax,mobile,onnx,plots,tensorflow,test

clean:
	rm -rf .venv .venv-jax .venv-torch .venv-oldest .venv-wheel .pytest_cache .ruff_cache .hypothesis .coverage* *.egg-info build dist docs/_build $(wildcard docs/api/*/) saved_models/demo \
		recipes/page/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
