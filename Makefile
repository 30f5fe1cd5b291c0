# make demo   the whole job on this machine       make test   all tests
# make lint   what reviewers need not say         make bench  performance claims; those of
# `WITH_PHOTOS` below want a folder of photos, as they say themselves
# make soak   20 runs under 110 faults
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WITH_PHOTOS := benchmarks/data_quality.py benchmarks/loader.py

.PHONY: install demo test soak lint bench protos clean
.DEFAULT_GOAL := install

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "==> installing clipcurate and all it needs into $(VENV) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[local,languages,train,kubernetes,tensorboard,tracing,report,test,dev]'
	@touch $@

demo: install
	$(BIN)/python -m demo --output demo-output

test: install
	@scripts/test-packages
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest
	@$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

soak: install
	$(BIN)/python -m tests.chaos.soak --runs 20 --faults 110

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	for script in $(filter-out $(WITH_PHOTOS),$(wildcard benchmarks/*.py)); do \
		$(BIN)/python $$script || exit 1; done

protos: install
	scripts/protos

clean:
	rm -rf $(VENV) demo-output .coverage* .mypy_cache .ruff_cache .pytest_cache
