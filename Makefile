# Two commands: `make demo` runs the whole path on real speech, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup voices demo serve mlflow doctor test test-clients fuzz lint types imports check clean distclean

help:           ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 12

setup: $(READY) ## virtual environment with pinned versions

$(READY): pyproject.toml constraints.txt requirements-nodeps.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,serve,voices,evals,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-nodeps.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt pesq >/dev/null 2>&1 \
	    || echo "no C compiler (gcc, python3-dev): codecs are judged without PESQ"
	@touch $(READY)

voices:          ## Debian's Telugu voices beside eSpeak NG: Festival, HTS (as root)
	apt-get install -y -qq --no-install-recommends festival festival-te festvox-te-nsk htsengine

demo: $(READY)  ## corpus -> codec -> S2S -> registry -> Serve -> a real-time stream
	$(BIN)/python -m jobs.demo

serve: $(READY) ## leave the application and the MLflow UI running (Ctrl-C stops both)
	$(BIN)/python -m jobs.serve

mlflow: $(READY) ## the MLflow UI alone, over what the demo and the jobs have logged
	$(BIN)/python -m jobs.mlflow_server

doctor: $(READY) ## machine, versions, ports, models, one frame through every stage; what to do
	$(BIN)/python -m jobs.doctor

# What keeps time or starts servers has the machine to itself; the rest takes a core each.
ALONE := tests/browser tests/cluster tests/deploy tests/e2e tests/wire
test: $(READY)  ## all tests, hermetic
	$(BIN)/python -m pytest -n auto $(addprefix --ignore ,$(ALONE))
	$(BIN)/python -m pytest $(ALONE)

test-clients: $(READY) ## stock OpenAI Realtime clients, each installed apart, against the application
	$(BIN)/python -m tests.clients

fuzz: $(READY)  ## 20,000 examples for every protocol (half an hour)
	PALUKU_FUZZ_EXAMPLES=20000 $(BIN)/python -m pytest --timeout 6000 tests/unit/protocol tests/unit/serving/test_transcoding.py tests/wire/test_native_fuzz.py

lint: $(READY)  ## ruff: style and format
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(READY) ## pyright
	$(BIN)/pyright

imports: $(READY) ## import rules
	$(BIN)/lint-imports

check: lint types imports test ## everything CI runs

clean:          ## remove what the demo and the tests made
	rm -rf .paluku .pytest_cache .ruff_cache .hypothesis .import_linter_cache

distclean: clean ## the virtual environment too
	rm -rf $(VENV) platform/*.egg-info
