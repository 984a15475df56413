# `make` lists what can be made. A machine needs make and a Python of at least 3.11 with venv, nothing else.

# The first of these that is new enough; another one: make study PYTHON=/path/to/python3.12
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
# Where to take torch from, for a build other than the default one of the package index.
TORCH_INDEX ?=
# Passed on: make study ARGS='--seeds 12', make test ARGS='-k ablation'
ARGS ?=

PIP = .venv/bin/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help study test test-system check chaos bench-dp pins clean

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 16

study: .venv/study ## install, then run the study fsd_lcs and print its ablation table
	@.venv/bin/python run_study.py --space fsd_lcs $(ARGS)

test: .venv/dev ## install, then run all tests
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadgroup $(ARGS)

test-system: .venv/dev .venv/cluster ## install, then run the tests that need root (PostgreSQL), servers or minutes
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest tests/system $(ARGS)

check: .venv/dev ## install, then check style, types and who imports whom
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy ftcl study analysis run_study.py
	.venv/bin/lint-imports

chaos: .venv/study ## install, then kill a study 50 times and compare it with one that was left alone (20 minutes)
	@.venv/bin/python -m benchmarks.chaos --kills 50 --seed 0 $(ARGS)

bench-dp: .venv/bench ## install, then time ftcl.dp beside other packages and draw the picture of the docs
	@.venv/bin/python -m benchmarks.dp --plot docs/images/dp_growth.svg $(ARGS)

pins: .venv/python ## renew constraints.txt
	@rm -rf build/pins && $(PYTHON) -m venv build/pins
	@grep -e '^torch==' -e '^triton==' constraints.txt > build/pins/torch.txt
	@build/pins/bin/python -m pip install --quiet -c build/pins/torch.txt setuptools '.[bench,cluster,dev,gcp]'
	@grep '^#' constraints.txt > build/pins/constraints.txt
	@build/pins/bin/python -m pip freeze --all --exclude ftcl-study --exclude pip \
		| sed -e '/^nvidia-/d' -e '/^cuda-/d' -e 's/+.*//' >> build/pins/constraints.txt
	@mv build/pins/constraints.txt constraints.txt && rm -rf build/pins

clean: ## delete .venv and caches; studies stay
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Marks of what is installed; they are older than what they depend on when that has changed.
.venv/python:
	@test -n '$(PYTHON)' || { echo 'No Python of at least 3.11 was found (looked for python3.13, python3.12,' \
		'python3.11, python3). Install one, or name it: make study PYTHON=/path/to/python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo '$(PYTHON) is not a Python of at least 3.11; name another: make study PYTHON=...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo '$(PYTHON) has no venv (on Debian and Ubuntu' \
		'it is the package python3-venv); install it or name another: make study PYTHON=...' >&2; exit 1; }
	@echo 'making .venv with $(PYTHON)'
	@$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/study: .venv/python pyproject.toml constraints.txt $(wildcard ftcl/dp/backends/csrc/*)
	@echo 'installing into .venv: 1 to 10 minutes, most of it the download of torch'
	@$(PIP) install -c constraints.txt setuptools
ifneq ($(TORCH_INDEX),)
	@$(PIP) install -c constraints.txt --no-deps --index-url $(TORCH_INDEX) torch
endif
	@$(PIP) install -c constraints.txt --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/study
	@echo 'installing the tools for tests and checks: about half a minute'
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

.venv/cluster: .venv/study
	@echo 'installing what a cluster needs: about half a minute'
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[cluster]'
	@touch $@

.venv/bench: .venv/study
	@echo 'installing the packages that the benchmark compares with: about half a minute'
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[bench]'
	@touch $@
