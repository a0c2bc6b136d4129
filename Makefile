# Everything here works from a clean clone on a machine with Python 3.11, make and pip. `make` lists the targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
CACHE  ?= $(HOME)/.cache/elasticc_hc
DATA   ?=

BIN := .venv/bin
HC  := $(BIN)/elasticc-hc
DEV := .venv/installed-dev
# The demo needs the library only; a .venv that has the development tools as well will do.
RUN := $(if $(wildcard $(DEV)),$(DEV),.venv/installed)
PACKAGING := setup.py settings.ini pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test slow fuzz docs readme export lint lab constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- installation: .venv is made once, and again when the packaging files change ---

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/installed: $(BIN)/python $(PACKAGING)
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	@touch $@

$(DEV): $(BIN)/python $(PACKAGING)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

constraints: $(DEV) ## write constraints.txt from what .venv has
	$(BIN)/python -m pip freeze --all --exclude pip --exclude-editable | sed 's/+.*//' > constraints.txt

# --- the demo: real light curves in, animated results out ---

ifeq ($(DATA),)
WORK     := demo/plasticc
TAXONOMY := plasticc
INPUT     = $(WORK)/converted.parquet
else
WORK     := demo/elasticc2
TAXONOMY := elasticc2
INPUT     = "$(DATA)"/*.parquet
endif
TRAINING_CODE := $(wildcard $(patsubst %,elasticc_hc/%.py,lightcurves augmentation taxonomy dataset loss model training))

demo: $(WORK)/trained ## train and evaluate on PLAsTiCC and write gif/; DATA=folder: on the converted files in it
	$(HC) evaluate $(WORK)/run $(WORK)/split/test.parquet --out $(WORK)/results --overwrite
	$(HC) animate $(WORK)/results --out gif --overwrite
	@echo "Model: $(WORK)/run/   Metrics and figures: $(WORK)/results/   Animations: gif/"

$(WORK)/trained: $(WORK)/split/train.parquet $(TRAINING_CODE)
	$(HC) train $(WORK)/split/train.parquet --out $(WORK)/run --taxonomy $(TAXONOMY) --preset lstm --seed 0 --overwrite
	@touch $@

ifeq ($(DATA),)
$(WORK)/split/train.parquet: $(INPUT)
	$(HC) combine $(INPUT) --out $(WORK)/split --test-fraction 0.3 --seed 0 --overwrite

$(INPUT): | $(RUN)
	@mkdir -p $(WORK)
	$(HC) plasticc $@ --cache "$(CACHE)" --overwrite
else
.PHONY: $(WORK)/split/train.parquet
$(WORK)/split/train.parquet: | $(RUN)
	@ls $(INPUT) > /dev/null 2>&1 || { echo "make demo: no Parquet file in $(DATA); write some with: $(HC) convert"; exit 1; }
	@mkdir -p $(WORK)
	$(HC) combine $(INPUT) --out $(WORK)/split --test-fraction 0.3 --seed 0 --overwrite
endif

# --- development ---

test: $(DEV) ## run every notebook and test; the last line is "N passed, M failed"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -rsfE

slow: $(DEV) ## run the notebooks with their slow cells as well
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --flags slow --n_workers 2 --do_print --timing

fuzz: $(DEV) ## the conversion against 2,000 damaged inputs and 400 kills; make test runs fewer
	OMP_NUM_THREADS=1 $(BIN)/python tests/conversion_fuzz.py 2000
	OMP_NUM_THREADS=1 ELASTICC_HC_KILLS=200 $(BIN)/python -m pytest -k random_moments tests/test_conversion_trouble.py

export: $(DEV) ## notebooks to elasticc_hc/, cleaned, and README.md
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
	$(BIN)/python docs/readme.py

readme: $(DEV) ## README.md from nbs/index.ipynb
	$(BIN)/python docs/readme.py

docs: $(DEV) ## the site in _site/: with Quarto where it is installed, else with smalldocs
	$(BIN)/python docs/site.py

lint: $(DEV) ## ruff
	$(BIN)/ruff check .

lab: $(DEV) ## JupyterLab, in nbs/
	$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/nbs/index.ipynb

clean: ## remove what make wrote, except .venv and gif/
	rm -rf _site _proc build dist demo .pytest_cache .ruff_cache .hypothesis *.egg-info nbs/nbdev.yml nbs/sidebar.yml
