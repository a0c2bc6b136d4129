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
.PHONY: help demo films plasticc benchmark test slow fuzz docs outputs picture readme export lint lab constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- installation: .venv is made once, and again when the packaging files change ---

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/installed: $(BIN)/python $(PACKAGING)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[explorer]'
	@touch $@

$(DEV): $(BIN)/python $(PACKAGING)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[all,dev]'
	@touch $@

constraints: $(DEV) ## write constraints.txt from what .venv has
	$(BIN)/python -m pip freeze --all --exclude pip --exclude-editable | sed 's/+.*//' > constraints.txt

# --- from files to pictures: simulated data, PLAsTiCC, or your own ---

, := ,
SYNTHETIC := demo/synthetic
PLASTICC  := demo/plasticc
REAL      := demo/elasticc2
LARGE     := demo/benchmark
FILMS     := demo/films
TRAINING_CODE := $(wildcard $(patsubst %,elasticc_hc/%/*.py,taxonomy lightcurves augmentation loss training))

# $(call split,FILES,FOLDER)   $(call train,FOLDER,TAXONOMY,OPTIONS)   $(call show,FOLDER,NAME OF THE DATA)
split = $(HC) combine $(1) --out $(2)/split --test-fraction 0.3 --seed 0 --overwrite
train = $(HC) train $(1)/split/train.parquet --out $(1)/run --taxonomy $(2) --preset default --seed 0 --overwrite $(3)
define show
	$(HC) evaluate $(1)/run $(1)/split/test.parquet --name $(2) --out $(1)/results --overwrite
	$(HC) animate $(1)/results --out $(1)/gif --overwrite
	@echo "Model: $(1)/run/   Metrics, figures, report.html: $(1)/results/   Animations: $(1)/gif/"
endef

ifeq ($(DATA),)
demo: $(SYNTHETIC)/trained ## simulate 32 models, convert, train, evaluate, animate, in demo/synthetic/; DATA=folder: your converted files instead
	$(call show,$(SYNTHETIC),"simulated$(,) seed 0$(,) test side")
else
demo: $(REAL)/trained
	$(call show,$(REAL),"$(DATA)$(,) test side")
endif

# The films of the README: new objects, as many of each leaf, that neither trained nor tested the packaged classifier.
films: $(FILMS)/split/test.parquet ## the animations in gif/: the packaged classifier on new simulated objects, 250 of each leaf
	$(HC) evaluate synthetic $< --name "simulated, seed 20261" --out $(FILMS)/results --draws 0 --overwrite
	$(HC) animate $(FILMS)/results --out gif --overwrite

$(FILMS)/split/test.parquet: | $(RUN)
	@mkdir -p $(FILMS)
	$(HC) simulate $(FILMS)/fits --per-model 150 --balance leaf --seed 20261 --jobs 2 --overwrite
	$(HC) convert $(FILMS)/fits $(FILMS)/converted --jobs 2 --overwrite
	$(HC) combine $(FILMS)/converted/*.parquet --out $(FILMS)/split --test-fraction 0.999 --seed 0 --overwrite

$(SYNTHETIC)/trained: $(SYNTHETIC)/split/train.parquet $(TRAINING_CODE)
	$(call train,$(SYNTHETIC),elasticc2,--epochs 50)
	@touch $@

$(SYNTHETIC)/split/train.parquet: $(SYNTHETIC)/converted/conversion.json
	$(call split,$(SYNTHETIC)/converted/*.parquet,$(SYNTHETIC))
	$(HC) summary $(SYNTHETIC)/converted/*.parquet --taxonomy elasticc2

$(SYNTHETIC)/converted/conversion.json: | $(RUN)
	@mkdir -p $(SYNTHETIC)
	$(HC) simulate $(SYNTHETIC)/fits --per-model 200 --balance leaf --seed 0 --jobs 2 --overwrite
	$(HC) convert $(SYNTHETIC)/fits $(SYNTHETIC)/converted --jobs 2 --overwrite

plasticc: $(PLASTICC)/trained ## the same with the training set of PLAsTiCC (80 MB, fetched once)
	$(call show,$(PLASTICC),"PLAsTiCC$(,) test side")

$(PLASTICC)/trained: $(PLASTICC)/split/train.parquet $(TRAINING_CODE)
	$(call train,$(PLASTICC),plasticc)
	@touch $@

$(PLASTICC)/split/train.parquet: $(PLASTICC)/converted.parquet
	$(call split,$<,$(PLASTICC))

$(PLASTICC)/converted.parquet: | $(RUN)
	@mkdir -p $(PLASTICC)
	$(HC) plasticc $@ --cache "$(CACHE)" --overwrite

$(REAL)/trained: $(REAL)/split/train.parquet $(TRAINING_CODE)
	$(call train,$(REAL),elasticc2)
	@touch $@

.PHONY: $(REAL)/split/train.parquet
$(REAL)/split/train.parquet: | $(RUN)
	@ls "$(DATA)"/*.parquet > /dev/null 2>&1 || { echo "make demo: no Parquet file in $(DATA); write some with: $(HC) convert"; exit 1; }
	@mkdir -p $(REAL)
	$(call split,"$(DATA)"/*.parquet,$(REAL))

$(LARGE)/split/train.parquet: | $(RUN)
	@mkdir -p $(LARGE)
	$(HC) simulate $(LARGE)/fits --per-model 1500 --seed 0 --jobs 2 --overwrite
	$(HC) convert $(LARGE)/fits $(LARGE)/converted --jobs 2 --overwrite
	$(call split,$(LARGE)/converted/*.parquet,$(LARGE))

# $(call compare,FOLDER,NAME,OPTIONS)
compare = OMP_NUM_THREADS=1 $(BIN)/python bench/quality.py $(1)/split/train.parquet $(1)/split/test.parquet --name $(2) --statics with without $(3) | tee $(1)/quality.jsonl

benchmark: $(PLASTICC)/split/train.parquet $(LARGE)/split/train.parquet $(DEV) ## our presets, ORACLE's recipe and boosted trees on PLAsTiCC and on simulated objects, three seeds (a day)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	$(call compare,$(PLASTICC),PLAsTiCC,--epochs 80)
	$(call compare,$(LARGE),synthetic,--taxonomy elasticc2 --epochs 25)

# --- development ---

test: $(DEV) ## run every notebook and test; the last line is "N passed, M failed"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -rsfE

slow: $(DEV) ## run the notebooks with their slow cells as well
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --flags slow --n_workers 2 --do_print --timing

fuzz: $(DEV) ## 2,000 damaged inputs and 400 kills of the conversion, 2,000 examples per property of the entrances; make test runs fewer
	OMP_NUM_THREADS=1 $(BIN)/python tests/conversion_fuzz.py 2000
	OMP_NUM_THREADS=1 ELASTICC_HC_KILLS=200 $(BIN)/python -m pytest -k random_moments tests/test_conversion_trouble.py
	OMP_NUM_THREADS=1 ELASTICC_HC_EXAMPLES=2000 $(BIN)/python -m pytest -n 2 tests/test_entrances.py

export: $(DEV) ## notebooks to elasticc_hc/, cleaned, and README.md
	$(BIN)/nbdev_export
	$(BIN)/python docs/init_files.py
	$(BIN)/nbdev_clean
	$(BIN)/python docs/readme.py

outputs: $(DEV) ## execute all notebooks in place, so that their stored outputs are those of the present code
	$(BIN)/python docs/outputs.py
	$(BIN)/nbdev_clean

picture: $(DEV) ## images/explorer.png, from the browser test
	OMP_NUM_THREADS=1 ELASTICC_PICTURES=images $(BIN)/python -m pytest -q tests/test_browser.py

readme: $(DEV) ## README.md from nbs/index.ipynb
	$(BIN)/python docs/readme.py

docs: $(DEV) ## the site in _site/
	$(BIN)/python docs/build_site.py

lint: $(DEV) ## ruff, and the floors of the package
	$(BIN)/ruff check .
	$(BIN)/lint-imports

lab: $(DEV) ## JupyterLab, in nbs/
	$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/nbs/index.ipynb

clean: ## remove what make wrote, except .venv and gif/
	rm -rf .import_linter_cache _site _proc build dist demo .pytest_cache .ruff_cache .hypothesis *.egg-info nbs/nbdev.yml nbs/sidebar.yml
