# make quick  installs, then first pictures within three minutes, in runs/demo/quick
# make demo   the whole method at small size, from nothing to a report in runs/demo
# make test   format, lint, types, import contracts, then every test, with what they cover
# make check  the same without the slow tests and without coverage
# make lint   format, lint, types and import contracts alone
# make docs   the documentation site in build/docs/html: pages, gallery, API, tested examples
# make wheel  builds the wheel into dist/ and tries it in a fresh environment outside the checkout
# make clean  removes what the above made, except runs/

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
	&& { echo "$$python"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt
TORCH := $(shell grep '^torch==' constraints.txt)
TORCHVISION := $(shell grep '^torchvision==' constraints.txt)
CPU_BUILD := $(PIP) install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

export PIP_NO_WARN_SCRIPT_LOCATION := 1

.PHONY: quick demo test check lint docs wheel clean
.DELETE_ON_ERROR:

quick: $(VENV)/.core
	@$(BIN)/neuroadapter demo --quick

demo: $(VENV)/.core
	@$(BIN)/neuroadapter demo

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy neuroadapter_jax
	@$(BIN)/lint-imports --no-cache

check: lint
	@$(PYTEST) -m "not slow"

test: lint
	@$(PYTEST) --cov --cov-report term:skip-covered --cov-fail-under 90

# A warning is an error, and so is an example that fails. What did not change is not made again: pages,
# and pictures of the gallery. The second builder runs the examples of the API reference, from the
# pages that the first one has read.
SPHINX := $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -d build/docs/doctrees
docs: $(VENV)/.docs
	@$(SPHINX) -b html docs build/docs/html
	@$(SPHINX) -b doctest docs build/docs/doctest
	@$(BIN)/python docs/check_site.py build/docs/html
	@echo "The site: build/docs/html/index.html"

# The steps of a release but the upload. The environment is fresh and the folder is empty, so that
# nothing of the checkout is found by chance.
wheel: $(BIN)/python
	@rm -rf build/lib build/bdist.* dist
	@$(PIP) wheel --quiet --no-deps --wheel-dir dist .
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && set -e; \
	$(BIN)/python -m venv "$$folder/venv"; \
	"$$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet \
		--constraint constraints.txt dist/*.whl; \
	mkdir "$$folder/empty"; cd "$$folder/empty"; \
	"$$folder/venv/bin/neuroadapter" --help >/dev/null; \
	"$$folder/venv/bin/neuroadapter" train --help >/dev/null; \
	"$$folder/venv/bin/neuroadapter" prepare --config demo --dry-run; \
	"$$folder/venv/bin/neuroadapter" doctor
	@echo "The wheel: $$(ls dist/*.whl)"

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .mypy_cache .coverage* build dist *.egg-info \
		docs/gallery docs/api/generated docs/sg_execution_times.rst
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 to 3.14 was found on the path; \
	install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is \
	older than Python 3.11; install a newer one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) lacks the venv module; \
	install it (on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Creating $(VENV) with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv $(VENV)

$(VENV)/.core: setup.py constraints.txt | $(BIN)/python
	@echo "Installing neuroadapter-jax (about 1.5 GB in $(VENV), a few minutes)"
	@$(INSTALL) --editable .
	@touch $@

# The CPU builds first: where pip finds none, its own choice on Linux is several GB. TORCH_INDEX
# names an index that has them. Another build of torchvision does not start beside a CPU build of
# PyTorch, nor does transformers then; it goes to a folder of its own, where only the tests look
# that compare with its networks.
$(VENV)/.dev: setup.py constraints.txt | $(BIN)/python
	@echo "Installing neuroadapter-jax with what its tests need (about 4 GB in $(VENV), a few minutes)"
	@$(CPU_BUILD) '$(TORCH)+cpu' '$(TORCHVISION)+cpu' 2>/dev/null \
	|| { $(CPU_BUILD) '$(TORCH)+cpu' 2>/dev/null \
	&& { $(PIP) install --quiet --no-deps --upgrade --target $(VENV)/torchvision '$(TORCHVISION)' \
	|| echo "torchvision is not available; the tests that compare with its networks are skipped"; }; } \
	|| $(PIP) install --quiet '$(TORCH)' '$(TORCHVISION)'
	@$(INSTALL) --editable '.[dev]'
	@touch $(VENV)/.core $@

# After `make test` this adds only what is missing.
$(VENV)/.docs: setup.py constraints.txt | $(BIN)/python
	@echo "Installing what the documentation needs"
	@$(INSTALL) --editable '.[docs]'
	@touch $@
