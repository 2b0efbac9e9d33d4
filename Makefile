# Two commands: `make demo` and `make test`. They need Python >= 3.11 and make, nothing else; what they install goes into .venv.

# The interpreters that are tried, in this order; `make demo PYTHON=/path/to/python` names another.
PYTHON ?= python3 python3.13 python3.12 python3.11
OUT ?= out/demo

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RECENT := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test trainers lint doctest docs wheel clean

help:  ## show these lines
	@sed -n 's/^\([a-z]*\):.*## /  make \1#/p' $(firstword $(MAKEFILE_LIST)) | awk -F'#' '{ printf "%-16s%s\n", $$1, $$2 }'

demo: .venv/.demo  ## solve three mixture problems on real text and judge the mixtures (OUT=out/demo)
	$(BIN)/mixopt demo --out $(OUT)

test: .venv/.test  ## run the tests
	$(BIN)/python -P -m pytest

trainers: .venv-trainers/.ready  ## let the trainers themselves read exported files, draw from their streams and train (in .venv-trainers)
	MIXOPT_TRAINERS=1 .venv-trainers/bin/python -P -m pytest tests/export/test_trainers.py tests/loading/test_released.py tests/trainers/test_lightning.py

lint: .venv/.test  ## check style, format, types and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

doctest: .venv/.test  ## run the examples in docstrings and pages
	$(BIN)/python -P -m pytest --doctest-modules --doctest-glob='*.md' mixopt $(wildcard docs) README.md

docs: .venv/.docs  ## build the pages as a site into out/docs, warnings as errors
	rm -rf out/docs
	$(BIN)/sphinx-build --builder html --fail-on-warning --nitpicky --keep-going --quiet docs out/docs
	$(BIN)/python -P .ci/check_docs.py out/docs

wheel: .venv/.test  ## build the wheel into dist/ and try it outside this folder
	rm -rf build dist
	$(PIP) wheel . --no-deps --wheel-dir dist
	$(BIN)/python -P .ci/check_wheel.py dist/mixopt-*.whl

clean:  ## remove what these commands made, .venv among it
	rm -rf .venv .venv-trainers build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The installs are editable, so that a changed source file needs no second one; .test holds all that .demo does.
.venv/.demo: .venv/.ready pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[plots]'
	@touch $@

.venv/.test: .venv/.ready pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[test]'
	@touch .venv/.demo $@

.venv/.docs: .venv/.test
	$(PIP) install -c constraints.txt -e '.[test,docs]'
	@touch $@

# Sees all that .venv holds, and the trainers before it.
.venv-trainers/.ready: .venv/.test tests/export/requirements.txt
	$(BIN)/python -m venv --clear .venv-trainers
	.venv-trainers/bin/python -m pip --disable-pip-version-check install --no-deps -r tests/export/requirements.txt
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(" + repr(sysconfig.get_path("purelib")) + ")")' \
	    > "$$(.venv-trainers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth"
	@touch $@

# A .venv that works is kept as it is.
.venv/.ready:
	@if ! { $(BIN)/python -c '$(RECENT)' && $(PIP) --version; } >/dev/null 2>&1; then \
	    for python in $(PYTHON) none; do \
	        if "$$python" -c '$(RECENT)' >/dev/null 2>&1; then break; fi; \
	    done; \
	    if [ "$$python" = none ]; then \
	        echo "found no Python >= 3.11 with its venv module among: $(PYTHON)" >&2; \
	        echo "install one (Debian and Ubuntu: the package python3-venv too), or name it: make demo PYTHON=/path/to/python3.11" >&2; \
	        exit 1; \
	    fi; \
	    echo "making .venv with $$("$$python" -c 'import sys; print(sys.executable, sys.version.split()[0])')"; \
	    "$$python" -m venv --clear .venv; \
	fi
	@touch $@
