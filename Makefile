# Every target makes what it needs: a virtual environment, the packages, the libraries.
#
#   PYTHON   the Python >= 3.10 that makes the environment, default python3
#   VENV     the environment, default .venv; an existing one is taken as it is and completed
#   PYTEST   further arguments of pytest, as in: make test PYTEST="-k channels -m slow"; -n0 runs the
#            tests in one process, as a debugger needs it, not one on each of up to 8 processors

PYTHON ?= python3
VENV ?= .venv
PYTEST ?=

export FREQOPS_WERROR ?= on

BIN := $(abspath $(VENV))/bin
CXX_SOURCES = $(shell find csrc tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

.PHONY: help demo test bench lint format wheel clean build
.DEFAULT_GOAL := help

help:
	@echo "make build    the environment and the compiled libraries, what has changed"
	@echo "make demo     photographs to frequency channels and back, as a table and a picture"
	@echo "make test     build everything, run the tests"
	@echo "make bench    the operators beside the ways to say them in PyTorch"
	@echo "make lint     what CI asks of the text of the sources"
	@echo "make format   mend most of what lint finds"
	@echo "make wheel    dist/*.whl and the sdist"
	@echo "make clean    remove all that was built, the environment too"

demo: build
	$(BIN)/python -m freqops demo

test: build
	$(BIN)/cmake --build build/cmake --target freqops_emulated
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal $(PYTEST)

bench: build
	$(BIN)/python -m pytest benchmarks -m "" $(PYTEST)

lint: $(BIN)/.freqops-tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CXX_SOURCES)

format: $(BIN)/.freqops-tools
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_SOURCES)

wheel: $(BIN)/.freqops-tools
	rm -rf build/lib* dist
	$(BIN)/python setup.py --quiet sdist
	$(BIN)/python -m pip wheel --no-build-isolation --no-deps --wheel-dir dist .

clean:
	rm -rf build dist *.egg-info freqops/_*.so freqops/_build.json tests/emulation/*.so
	rm -rf .venv .venv-other .pytest_cache .mypy_cache .ruff_cache .benchmarks
	find . -name __pycache__ -prune -exec rm -rf {} +

# CMake decides what is out of date, so this runs every time; with nothing to do it takes a second.
build: $(BIN)/.freqops-tools
	$(BIN)/python setup.py --quiet build_ext --inplace

$(BIN)/python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and \
	  'freqops needs Python 3.10 or later, $(PYTHON) is ' + sys.version.split()[0] + \
	  ': try make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV) || { rm -f $(BIN)/python*; exit 1; }

# torch first, the one that torchvision fits to: without build isolation the package is built against
# it. The package itself is installed editable, its libraries already in place.
$(BIN)/.freqops-tools: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install "setuptools>=77" "cmake>=3.22" ninja "torch>=2.10" torchvision numpy \
	  "pybind11>=2.12"
	$(BIN)/python setup.py --quiet build_ext --inplace
	$(BIN)/python -m pip install --no-build-isolation --editable ".[dev]"
	touch $@
