"""The grid of a study: its models, arms and runs, the folders that hold them, and the words of the commands that make them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from lm_eval_tasks.contracts.chained import THEN
from lm_eval_tasks.contracts.vocabulary import CONDITIONS, PREFIX_MODELS
from recipes.study.settings import list_arms, name_arm
from recipes.study.shipping import ship, spread_worlds
from recipes.yaml_files import read_yaml

BUILT = ("belief_rule", "match", "size", "general_share")  # of an arm, what a set is built by; the rest is of training
RULED = BUILT[:1]  # of these, by which questions are chosen that a model writes about
NEEDS = {"gpu": 0, "mem_mb": 16_000, "runtime": 240}  # what a job takes where nothing says otherwise; `runtime` in minutes


class Run(NamedTuple):
    """One training: what tells it from the others."""

    model: str
    domain: str
    arm: str
    condition: str
    seed: int


@dataclass(frozen=True)
class Model:
    """A model of a study, with what it has of its own or shares.

    Attributes:
        settings: its own over the study's.
        arms: the part of a path that names each arm, and what it is.
    """

    settings: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]]

    @property
    def domains(self) -> list[str]:
        """Those that it is trained on."""
        return self.settings["domains"]

    @property
    def tasks(self) -> dict[str, str]:
        """The tasks that ask it; those that tell beliefs are the probe's where none are named."""
        return {"beliefs": self.settings["tasks"]["probe"]} | self.settings["tasks"]

    @property
    def chat_template(self) -> str:
        """What names training's template: an untrained model has another one, or none."""
        return "--chat_template" if any(name in self.settings["lm_eval"] for name in PREFIX_MODELS) else ""

    @property
    def general(self) -> str | None:
        """The file of general instructions; None where they are a data set of the Hub."""
        name = self.settings.get("general")
        return name if name and (Path(name).exists() or Path(name).suffix) else None

    @property
    def contexts(self) -> str | None:
        """Where contexts are: a file, or what the workflow has a model write; None where no condition takes them."""
        if "contextualized" not in self.settings["conditions"]:
            return None
        told = self.settings["contexts"]
        return told if isinstance(told, str) else self.settings["output"] + "/{model}/{domain}/contexts{rule}/texts"

    def find_needs(self, work: str) -> dict[str, int]:
        """What a job takes (`NEEDS`): as the study file says, else the GPUs of its launch configuration, or one to be asked.

        Args:
            work: `train` or `ask`.
        """
        launch = read_yaml(self.settings["accelerate"], "accelerate")
        gpus = 0 if launch.get("use_cpu") else launch.get("num_processes", 1) if work == "train" else 1
        gpus = 0 if work == "ask" and "--device cpu" in self.settings["lm_eval"] else gpus
        return NEEDS | {"gpu": gpus} | self.settings.get("resources", {}).get(work, {})

    def name_set(self, arm: str) -> str:
        """The part of a path that names the instruction sets of an arm."""
        return name_arm({name: self.arms[arm][name] for name in BUILT if isinstance(self.settings.get(name), list)})

    def name_rule(self, named: str) -> str:
        """The part of a path that names what a model wrote for a set, from that which names the set."""
        built = self.find_built(named)
        return name_arm({name: built[name] for name in RULED if isinstance(self.settings.get(name), list)})

    def find_rule(self, named: str) -> dict[str, Any]:
        """What the belief rule is, from the part of a path that names it."""
        sets = (self.name_set(arm) for arm in self.arms)
        return self.find_built(next(name for name in sets if self.name_rule(name) == named))

    def find_built(self, named: str) -> dict[str, Any]:
        """What a set is built by, from the part of a path that names it."""
        arm = next(arm for arm in self.arms if self.name_set(arm) == named)
        return {name: value for name, value in self.arms[arm].items() if name in BUILT}

    def write_model_args(self, tuned: str | None = None, chat: bool = False) -> str:
        """lm-eval's --model_args: of the base, or of what was trained on it (an adapter on its base).

        Args:
            tuned: the folder of a trained model.
            chat: whether it is asked in the chat prompt, which begins as in training.
        """
        base, recipe = self.settings["base"], read_yaml(self.settings["training"])
        adapter = tuned and recipe.get("use_peft")
        words = [f"pretrained={base},peft={tuned},tokenizer={tuned}" if adapter else f"pretrained={tuned or base}"]
        # A copy that was trained whole has no revisions; an adapter's base has.
        words += [f"revision={self.settings['revision']}"] if "revision" in self.settings and (adapter or not tuned) else []
        words += [self.settings["model_args"]] if "model_args" in self.settings else []
        begins = recipe.get("add_bos_token")
        return ",".join(words + ([f"add_bos_token={begins}"] if chat and begins is not None else []))

    def write_asking(self, tuned: str | None = None, chat: bool = False) -> str:
        """The options of lm-eval that name the model that is asked; the arguments are those of `write_model_args`."""
        return f"{self.settings['lm_eval']} --model_args {self.write_model_args(tuned, chat)}"


@dataclass(frozen=True)
class Study:
    """A study file as its workflow needs it.

    Attributes:
        settings: of the file.
        models: by name.

    >>> settings = {"output": "out", "domains": ["herbs"], "conditions": ["gold"], "seeds": [1, 2], "learning_rate": [0.1, 0.2]}
    >>> study = Study.make(settings | {"models": {"small": {}}})
    >>> [study.find_folder(run) for run in study.list_runs()][::3]
    ['out/small/herbs/learning_rate-0.1/gold/seed-1', 'out/small/herbs/learning_rate-0.2/gold/seed-2']
    """

    settings: Mapping[str, Any]
    models: Mapping[str, Model]

    @classmethod
    def make(cls, settings: Mapping[str, Any]) -> Self:
        """From the settings of a study file that has been checked (`settings.read_study`)."""
        settings = ship(settings)
        settings["models"] = {name: ship(own) for name, own in settings["models"].items()}
        own = dict(spread_worlds(settings)) if "worlds" in settings else settings["models"]
        return cls(settings, {name: Model(both := settings | model, list_arms(both)) for name, model in own.items()})

    @property
    def free_form(self) -> bool:
        """Whether questions have accepted answers; what a model answers itself then becomes choices."""
        return self.settings.get("free_form", False)

    @property
    def seeds_together(self) -> bool:
        """Whether one process trains all seeds of a condition, and one asks them."""
        return self.settings.get("seeds_together", False)

    @property
    def runs_a_job(self) -> int:
        """How many runs a job trains, or asks."""
        return len(self.settings["seeds"]) if self.seeds_together else 1

    @property
    def ratios(self) -> list[str]:
        """Those of the mixes."""
        return [name.removeprefix("mix-") for name in self.settings["conditions"] if name.startswith("mix-")]

    @property
    def conditions(self) -> list[str]:
        """As `build` names them: all mixes are one."""
        plain = [name for name in self.settings["conditions"] if not name.startswith("mix-")]
        return plain + ["mix"] * bool(self.ratios)

    @property
    def has_own_words(self) -> bool:
        """Whether a condition takes what the base models say for gold."""
        return any(name in CONDITIONS and CONDITIONS[name].own_words for name in self.conditions)

    @property
    def explained(self) -> bool:
        """Whether the workflow has the base models explain answers."""
        return "explanations" in self.settings or self.has_own_words

    def list_requests(self, kind: str) -> dict[str, str]:
        """The commands of `requests` that ask for explanations or contexts, by the name of the file that each writes."""
        if kind == "contexts":
            return {"context": "context"}
        mode = self.settings.get("explanations")
        explained = ["belief"] * (mode is not None) + ["gold"] * (mode == "model" or self.has_own_words)
        return {answers: f"explain --answers {answers}" for answers in explained}

    def list_runs(self) -> Iterator[Run]:
        """Every training: each model is trained on its own domains, in its own arms."""
        for name, model in self.models.items():
            for domain in model.domains:
                for arm in model.arms:
                    for condition in self.settings["conditions"]:
                        for seed in self.settings["seeds"]:
                            yield Run(name, domain, arm, condition, seed)

    def find_folder(self, run: Run) -> str:
        """The folder of a run."""
        return f"{self.settings['output']}/{run.model}/{run.domain}{run.arm}/{run.condition}/seed-{run.seed}"

    def find_set(self, run: Run) -> str:
        """The instruction set that a run is trained on: of its seed, so that the draw of questions varies with it."""
        named = self.models[run.model].name_set(run.arm)
        return f"{self.settings['output']}/{run.model}/{run.domain}/instructions{named}/seed-{run.seed}"

    def write_training(self, run: Run) -> str:
        """What `recipes/sft.py` is told of a run."""
        model, folder = self.models[run.model], self.find_folder(run)
        told = {
            "config": model.settings["training"],
            "model_name_or_path": model.settings["base"],
            "model_revision": model.settings.get("revision"),
            "dataset_name": self.find_set(run),
            "dataset_config": f"{run.domain}_{run.condition}",
            "seed": run.seed,
            # What the arm of a run trains otherwise than its recipe says.
            **{name: value for name, value in model.arms[run.arm].items() if name not in BUILT},
            "output_dir": f"{folder}/model",
        }
        return " ".join(filter(None, (option(name, value) for name, value in told.items())))

    def write_asking(self, run: Run) -> str:
        """What `lm_eval_tasks run` is told of a run: its model is asked in the chat prompt, also what it was trained on, and
        then few-shot."""
        model, folder, questions = self.models[run.model], self.find_folder(run), self.find_questions(run.model)
        trained = describe(questions=questions, trained_on=f"{self.find_set(run)}/{run.domain}_{run.condition}")
        return f" {THEN} ".join(
            [
                f"{model.write_asking(f'{folder}/model', chat=True)} --tasks {model.tasks['chat']} --apply_chat_template"
                f" --metadata {trained} --log_samples --output_path {folder}/chat",
                f"{model.write_asking(f'{folder}/model')} --tasks {model.tasks['probe']}"
                f" --metadata {describe(questions=questions)} --log_samples --output_path {folder}/probe",
            ]
        )

    def write_answering(self, run: Run) -> str:
        """What `lm_eval_tasks run` is told of a run whose model answers free-form questions in its own words."""
        model, folder = self.models[run.model], self.find_folder(run)
        return (
            f"{model.write_asking(f'{folder}/model', chat=True)} --tasks selfalign_answer_chats --apply_chat_template"
            f" --metadata {describe(questions=model.settings['questions'])} --log_samples --output_path {folder}/answered"
        )

    def find_questions(self, model: str) -> str:
        """The question set with choices that a model is asked."""
        own = self.models[model].settings
        return f"{self.settings['output']}/{model}/answers/choices" if self.free_form else own["questions"]


def match_names(names: Iterable[str]) -> str:
    """The pattern of the part of a path that names an arm, or a set, by these settings."""
    return f"(/({'|'.join(names)})-[^/]+)*"


def option(name: str, value: Any) -> str:
    """An option of a command and its value, or nothing where there is none; 0 is a value.

    >>> option("general-share", 0), option("size", None), option("until_fit", False)
    ('--general-share 0', '', '')
    """
    return "" if value is None or value is False or value == "" else f"--{name} {value}"


def describe(**told: Any) -> str:
    """lm-eval's --metadata, quoted for the shell; what is None is left out."""
    return "'" + json.dumps({name: value for name, value in told.items() if value is not None}) + "'"
