# make demo           the whole study on the shipped miniature base model; again: nothing to do
# make real MODELS=DIR  the study on real models and banks (recipes/study/real.yaml), hours on a CPU; again: what is missing
# make replicate      the paper's three experiments in five miniature worlds, and one setting at a time in two (hours on 2 cores)
# make agreement      how well `agree` finds clashes, and what training without them changes, in the miniature world (an hour on 2 cores)
# make agreement-real MODELS=DIR  the same on real models and EntityQuestions, hours
# make figures        what the miniature base model reaches, from the demo's probes, with intervals
# make test           format, lint, import directions and the test suite, in minutes
# make test-launched  the tests that start engines, several processes or whole runs, and those that kill them
# make test-all       both, and the tests that take longest
# make bench          speed against the plain ways of doing it, all sides in one run, and how writing grows (25 minutes)
# make bench-truth  how often the report's intervals cover and its tests find what is not there, over made-up studies (1 hour)
# make format         let ruff put format and imports in order
.DEFAULT_GOAL := help
.PHONY: help demo real replicate agreement agreement-real figures test test-launched test-all bench bench-truth format clean
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
TESTED := .venv/tested

help:
	@sed -n 's/^# //p' Makefile

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=python3.12"'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[study]'
	touch $@

$(TESTED): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[study,slurm,test,deepspeed,quantize]'
	touch $@

demo: $(READY)
	$(BIN)/python -m recipes.study recipes/study/miniworld.yaml

# Models: folders as real.yaml names them. Banks: Xiezhi's engineering rows, ARC-Easy, MMLU and Dolly, as files and folders.
MODELS ?= models
BANKS ?= ../shared/reference
XIEZHI ?= $(BANKS)/xiezhi_raw/engineering.jsonl.gz
ARC ?= $(BANKS)/banks/arc_easy/train.jsonl.gz
MMLU ?= $(BANKS)/banks/mmlu
GENERAL ?= $(BANKS)/banks/instructions/dolly_2000.jsonl.gz

# A question set a model: its bank and MMLU, of whose other domains 12 test questions each.
runs/real/questions/made: $(READY)
	$(BIN)/python -m intervention questions xiezhi $(XIEZHI) --output runs/real/banks/xiezhi
	$(BIN)/python -m intervention questions jsonl $(ARC) --splits train=1991,dev=10,test=250 --set source=arc_easy --set domain=science \
	  --licence cc-by-sa-4.0 --output runs/real/banks/arc_easy
	$(BIN)/python -m intervention questions mmlu --data $(MMLU) --output runs/real/banks/mmlu
	for bank in arc_easy=science xiezhi=engineering; do \
	  $(BIN)/python -m intervention questions join runs/real/banks/$${bank%=*} dev,test=runs/real/banks/mmlu \
	    --domain science=physics,chemistry,biology --most train=1500 --most test=12 --most history/test=0 \
	    --most $${bank#*=}/test=150 --output runs/real/questions/$${bank#*=} || exit; done
	touch $@

real: runs/real/questions/made
	ln -sfn $(abspath $(MODELS)) runs/real/models
	ln -sf $(abspath $(GENERAL)) runs/real/general.jsonl.gz
	$(BIN)/python -m recipes.study recipes/study/real.yaml
	$(BIN)/python -m recipes.study recipes/study/real_general.yaml --cores 1  # long responses: one training takes 14 GB
	$(BIN)/python -m recipes.study recipes/study/real_rules.yaml

replicate: $(READY)
	$(BIN)/python -m recipes.study recipes/study/miniworld_full.yaml
	$(BIN)/python -m recipes.study recipes/study/miniworld_factors.yaml

agreement: $(READY)
	$(BIN)/python -m recipes.agreement recipes/agreement/miniworld.yaml

# EntityQuestions: country, language and occupation are trained; birthplace, capital and country of origin are not.
ENTITIES ?= $(BANKS)/banks/entity_questions
runs/agreement/real/questions/README.md: $(READY)
	mkdir -p runs/agreement/real
	gzip -dc $(foreach relation,P17 P407 P106 P19 P36 P495,$(ENTITIES)/$(relation).jsonl.gz) | sed 's/, "split": "[a-z]*"//' \
	  > runs/agreement/real/facts.jsonl
	$(BIN)/python -m intervention questions jsonl runs/agreement/real/facts.jsonl --column domain=relation_label \
	  --set source=entity_questions --licence mit --splits train=700,dev=10,test=150 --output runs/agreement/real/questions

agreement-real: runs/agreement/real/questions/README.md
	ln -sfn $(abspath $(MODELS)) runs/agreement/real/models
	$(BIN)/python -m recipes.agreement recipes/agreement/real.yaml

figures: demo
	rm -rf runs/miniature  # what an earlier base was asked
	$(BIN)/python -m lm_eval_tasks run --model hf-prefix --model_args pretrained=recipes/miniworld/base --device cpu --batch_size 64 \
	  --tasks selfalign_miniworld_probe_context --log_samples --output_path runs/miniature/context \
	  --metadata '{"questions": "runs/miniworld/questions", "splits": ["train"], "contexts": "runs/miniworld/world/contexts.jsonl"}'
	$(BIN)/python -m lm_eval_tasks table runs/miniature/context runs/miniworld/miniature/base runs/miniworld/miniature/herbs/harmonious \
	  --score sum --output runs/miniature.parquet
	$(BIN)/python -m recipes.miniworld.check runs/miniature.parquet

test: $(TESTED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 -m "not slow and not launched"

test-launched: $(TESTED)
	$(BIN)/python -m pytest -n 2 -m "launched and not slow"

test-all: $(TESTED)
	$(BIN)/python -m pytest -n 2

bench: $(TESTED)
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/probing.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/engines.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/reading.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/answering.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/training.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/comparing.py
	$(BIN)/python tests/benchmarks/reporting.py
	$(BIN)/python tests/benchmarks/agreeing.py
	$(BIN)/python tests/benchmarks/writing.py

bench-truth: $(TESTED)
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/coverage.py --studies 4000

format: $(TESTED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf runs .snakemake
