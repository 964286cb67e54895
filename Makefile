# make demo: a trained autoencoder, pictures and numbers.   make bench: aecli beside its peers.   make bench-quick: what became slower.
# make test: the whole suite.   make quick: two minutes of it.   AECLI_SOAK=1 make test: compiled as for a user, and many kills.
# make wheel: what is published, installed into an empty environment and run.
# make look: pictures of reports, by Chromium, for the documents.
# make docs: the documentation as pages, in docs/_build/index.html.
# make numbers: every config trained whole, with several seeds (hours; it goes on where it was stopped).
# Another interpreter or place: make test PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOCK := requirements.lock
TOGETHER := -n 2 --dist loadscope --no-loadscope-reorder

.PHONY: setup demo test docs onnx quick faults fuzz lint wheel bench bench-quick numbers look lock clean

setup: $(VENV)/.installed

$(VENV)/.installed: $(LOCK) pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("aecli needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.13" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

demo: setup
	@set -e; \
	run=$$($(BIN)/aecli train configs/quickstart.yaml); \
	folder=$${AECLI_RUNS_DIR:-runs}/$$run; \
	$(BIN)/aecli eval $$run; \
	$(BIN)/aecli sample $$run; \
	$(BIN)/aecli sample $$run --mode reconstruct; \
	echo; \
	echo "pictures  $$folder/samples/"; \
	echo "numbers   $$folder/eval/test.json"; \
	echo "more      $(BIN)/aecli show $$run"

test: setup
	$(BIN)/python -m pytest $(TOGETHER) $(ARGS)

# What needs the extra onnx, which holds other packages back: in an environment of its own.
onnx: .venv-onnx/.installed
	.venv-onnx/bin/python -m pytest tests/test_export.py -m onnx $(ARGS)

.venv-onnx/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-onnx
	.venv-onnx/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[onnx]' 'pytest>=8.4' 'pytest-timeout>=2.4'
	touch $@

quick: setup
	$(BIN)/python -m pytest $(TOGETHER) -m quick $(ARGS)

# Puts known faults into copies of the program and tells which test catches each.
faults: setup
	$(BIN)/python tests/find_faults.py $(ARGS)

# Feeds what reads files with changed ones, for three minutes: make fuzz ARGS="--minutes 30 --only npz"
fuzz: setup
	$(BIN)/python tests/fuzz.py $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

wheel: setup
	.ci/wheel $(BIN)

# Plain Markdown and what the code tells, in an environment of its own; a warning is an error.
docs: setup .venv-docs/.installed
	.venv-docs/bin/python -m sphinx --fresh-env --fail-on-warning --keep-going --quiet --builder html docs docs/_build $(ARGS)

.venv-docs/.installed: $(LOCK) pyproject.toml
	$(PYTHON) -m venv --without-pip .venv-docs
	$(BIN)/uv pip install --quiet --python .venv-docs/bin/python --constraint $(LOCK) --editable '.[docs]'
	touch $@

# An hour and more, on a machine that does nothing else. The peers live in an environment of their own. make bench ARGS=--keep
bench: setup .venv-peers/.installed
	$(BIN)/python benchmarks/suite.py --peers .venv-peers/bin/python $(ARGS)

# Some minutes, without the peers: what has changed since the numbers in benchmarks/kept/ for this kind of machine.
bench-quick: setup
	$(BIN)/python benchmarks/suite.py --quick $(ARGS)

look: setup
	$(BIN)/python benchmarks/look.py $(ARGS)

# Hours, and goes on where it was stopped: make numbers ARGS="--only quickstart,vae_fashion". Keeps each seed in benchmarks/numbers/.
numbers: setup
	$(BIN)/python benchmarks/recipes.py $(ARGS)

.venv-peers/.installed: benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	touch $@

# Serves every supported Python at once; without index addresses, so that it works behind a mirror.
lock:
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate --no-header --extra dev pyproject.toml --output-file $(LOCK)

clean:
	rm -rf $(VENV) build dist docs/_build docs/reference .pytest_cache .ruff_cache
