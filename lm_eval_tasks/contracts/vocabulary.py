"""The words of the project, each written once: conditions, phases, evaluation sets, classes of beliefs, the threshold.

Every list, card, figure and table derives from here. A new condition is one more `Condition` in `CONDITIONS`.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from lm_eval_tasks.contracts.errors import UserError

KEY = ("source", "domain", "id")  # what tells questions apart
SPLITS = ("train", "dev", "test")  # of a question set; dev questions are shown as demonstrations
PREFIX_MODELS = ("hf-prefix", "vllm-prefix")  # the classes of models that this project adds to lm-eval's
THRESHOLD = 0.5  # of confidence, above which the paper takes a prediction for a belief

# What a belief is beside gold: the prediction above the threshold is gold, or is not; or there is no belief.
CLASSES = ("right", "wrong", "unsure")

# Which predictions count as beliefs, by name: the level where none is named (None: it has none), and what a belief then is.
RULES: dict[str, tuple[float | None, str]] = {
    "threshold": (THRESHOLD, "the choice that the model, asked few-shot, gave a probability above {:g}"),
    "top": (None, "the most probable choice of the model, asked few-shot, however probable"),
    "agreement": (
        0.75,
        "the most probable choice of the model, asked few-shot, where it is the first choice in a share of {:g} or more of the "
        "orders and draws in which the question was asked",
    ),
    "quantile": (
        0.5,
        "the most probable choice of the model, asked few-shot, of the most confident {:g} of the right and of the wrong "
        "predictions alike",
    ),
}
# Each of them for free-form questions, of which answers were sampled too: the prediction has to be what most of these say.
ANSWERED, HALF = "+answers", 0.5
RULES |= {
    f"{name}{ANSWERED}": (level, f"{sentence}, where more than half of its sampled answers say the same")
    for name, (level, sentence) in RULES.items()
}

# What a choice's probability is made of where its text is scored (OLMES, arXiv 2406.08446, section 3.3): as tables call it, and
# in a sentence. Of letters there is only the sum.
SCORES: dict[str, tuple[str, str]] = {
    "sum": ("summed", "the log-likelihood of the choice's text"),
    "per_character": ("per character", "the log-likelihood of the choice's text, divided by its characters"),
    "pmi": (
        "normalised by the unconditional",
        'the log-likelihood of the choice\'s text, less the one that it has after the bare cue ("Answer:")',
    ),
}
# By the way of scoring, where none is named: that of texts is the best calibrated one on real models (README).
DEFAULT_SCORE = {"letter": "sum", "cloze": "per_character"}

MATCHED = ("letter", "confidence", "rotation", "length")  # what conditions can be made alike in

GENERAL = "general"  # the condition of general instructions, which are added to every condition
INSTRUCTION_DATA = "instruction_data"  # that of rows which are of no instruction set: what their responses do is not known
BASE = "base"  # what tables call the base model in place of a condition

Questions = Literal["right", "wrong", "unsure", "all"]
Answers = Literal["gold", "belief", "other", "shuffled", "mix"]

# Which questions a condition takes (by class of belief): in a table, in a sentence, and counted among others.
QUESTIONS: dict[Questions, tuple[str, str, str]] = {
    "right": ("belief = gold", "questions that the base model answers rightly", "with a right belief"),
    "wrong": ("belief differs from gold", "questions that the base model answers wrongly", "with a wrong belief"),
    "unsure": ("no belief", "questions of which the base model is unsure", "without a belief"),
    "all": ("a random sample of all", "questions chosen at random from all training questions", "in all"),
}
# What its responses say: in a table, and in a sentence.
ANSWERS: dict[Answers, tuple[str, str]] = {
    "gold": ("gold", "the response is the right answer"),
    "belief": ("the belief", "the response is the model's own answer"),
    "other": ("a random choice that is neither gold nor the belief", "the response is another wrong answer"),
    "shuffled": (
        "the choice in the position of another question's belief",
        "the response is in the position of the model's own answer to another of these questions",
    ),
    "mix": (
        "the belief in a share R of the rows, else gold",
        "the response is the model's own answer for a share{} of them, and the right answer for the rest",
    ),
}


@dataclass(frozen=True)
class Condition:
    """One condition: what is trained, and how it is named and shown.

    Attributes:
        name: the value of the column `condition`, and with `ratio` of the name of a config.
        colour: of marks and bars, also in print and to most colour-blind readers unlike the others'.
        marker: matplotlib's, so that nothing hangs on colour.
        questions: which questions it takes, by what the base model believes.
        answers: what its responses say.
        with_context: the needed knowledge stands in the prompt.
        with_answer: the whole response stands in the prompt, so that only the form is left to learn.
        own_words: what the base model itself says for the answer follows it, whoever explains the other conditions' responses.
        end: its position at an end of the curve over the consistency ratio; None if it is none.
        headline: its position among the headline contrasts with `REFERENCE`; None where it is not among them.
        deeds: what it does and what `REFERENCE` does, as the two sides of "... beat ..."; of headline contrasts.
        ratio: of a mix, the share of rows that answer with the belief.
        by_default: whether it is built where no conditions are named.
    """

    name: str
    colour: str
    marker: str
    questions: Questions
    answers: Answers
    with_context: bool = False
    with_answer: bool = False
    own_words: bool = False
    end: float | None = None
    headline: int | None = None
    deeds: tuple[str, str] | None = None
    ratio: float | None = None
    by_default: bool = True

    def __post_init__(self) -> None:
        """Refuse a condition that answers with a belief where there is none."""
        if self.answers in ("belief", "shuffled", "mix") and self.questions not in ("right", "wrong"):
            raise ValueError(f"{self.name} has no belief to answer with: its questions are {QUESTIONS[self.questions][1]}")

    @property
    def config(self) -> str:
        """Its part of a config's name: `mix-0.4`."""
        return self.name if self.ratio is None else f"{self.name}-{self.ratio:g}"

    @property
    def label(self) -> str:
        """What tables and figures call it: "self-aligning", "mix 0.4"."""
        return name_condition(self.name, self.ratio)

    @property
    def sentence(self) -> str:
        """What it is: "questions that the base model answers wrongly; the response is the right answer"."""
        share = "" if self.ratio is None else f" {self.ratio:g}"
        said = ", and what the model itself says for it" if self.own_words else ""
        return f"{QUESTIONS[self.questions][1]}{self.addition}; {ANSWERS[self.answers][1].format(share)}{said}"

    @property
    def addition(self) -> str:
        """What its prompts hold beside the question: ", with the needed knowledge in the prompt", or nothing."""
        told = {"the needed knowledge": self.with_context, "the response": self.with_answer}
        held = " and ".join(what for what, is_told in told.items() if is_told)
        return f", with {held} in the prompt" if held else ""

    @property
    def on_curve(self) -> bool:
        """Whether it is a point of the curve over the consistency ratio."""
        return self.end is not None or self.answers == "mix"

    @property
    def correct(self) -> bool:
        """Whether every response is gold."""
        return self.answers == "gold"


# From what agrees most with the base model's beliefs to what agrees least: the order of all tables and figures.
_ALL = (
    Condition(
        name="harmonious",
        colour="#009E73",
        marker="o",
        questions="right",
        answers="gold",
        headline=2,
        deeds=("Training on what the model already knew", "teaching it what it had wrong"),
    ),
    Condition(
        name="self_aligning",
        colour="#0072B2",
        marker="s",
        questions="wrong",
        answers="belief",
        end=1.0,
        headline=1,
        deeds=("Repeating the model's own wrong answers", "teaching it the right ones"),
    ),
    Condition(name="mix", colour="#56B4E9", marker="D", questions="wrong", answers="mix"),
    Condition(
        name="contextualized",
        colour="#CC79A7",
        marker="P",
        questions="wrong",
        answers="gold",
        with_context=True,
        headline=3,
        deeds=("Teaching with the knowledge at hand", "teaching without it"),
    ),
    # The model's own wording of what clashes with it: self-distillation (Yang et al. 2024, arXiv 2402.13669).
    Condition(
        name="self_distilled",
        colour="#117733",
        marker="p",
        questions="wrong",
        answers="gold",
        own_words=True,
        by_default=False,
    ),
    Condition(name="unknown", colour="#5B3A1A", marker="<", questions="unsure", answers="gold", by_default=False),
    Condition(name="gold", colour="#E69F00", marker="*", questions="all", answers="gold"),
    Condition(name="incompatible", colour="#D55E00", marker="v", questions="wrong", answers="gold", end=0.0),
    Condition(name="random_wrong", colour="#8A8F98", marker="X", questions="wrong", answers="other"),
    Condition(name="shuffled", colour="#882255", marker="^", questions="wrong", answers="shuffled"),
    Condition(name="format_only", colour="#F0E442", marker="d", questions="wrong", answers="gold", with_answer=True),
)
CONDITIONS = {condition.name: condition for condition in _ALL}
REFERENCE = CONDITIONS["incompatible"]  # with which the others are contrasted
PAPER_RATIOS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)  # of the paper's mixes

PHASES = {
    "base_probe": "base model, few-shot",
    "base_again": "base model, few-shot, other demonstrations",
    "base_chat": "base model, chat prompt",
    "base_context": "base model, few-shot, with the knowledge in the prompt",
    "tuned_chat": "tuned model, chat prompt",
    "tuned_probe": "tuned model, few-shot",
    "tuned_context": "tuned model, few-shot, with the knowledge in the prompt",
}

# What a tuned model is asked, by how the questions relate to those it was trained on; the column is called `split`.
EVALUATION_SETS = {
    "homo": "new questions, same source",
    "id": "same domain, other source",
    "ood": "other domains",
    "seen": "the trained questions",
}
NEW_SETS = ("homo", "id", "ood")  # those whose questions were not trained on


class Primary(NamedTuple):
    """The one contrast with `REFERENCE` that a study names beforehand: of accuracy, and corrected apart from all others."""

    condition: str  # the name of a config: `self_aligning`, `mix-0.4`
    split: str
    phase: str


def read_primary(text: str) -> Primary:
    """The primary contrast that a text names: CONDITION[/SET[/PHASE]], of new questions of the same source in the chat prompt
    where it does not say.

    Raises:
        UserError: an unknown condition, evaluation set or phase, or `REFERENCE` itself.

    >>> read_primary("self_aligning")
    Primary(condition='self_aligning', split='homo', phase='tuned_chat')
    """
    parts = [part.strip() for part in text.split("/")]
    how = f"the primary contrast {text!r} is no CONDITION[/SET[/PHASE]]"
    if len(parts) > 3:
        raise UserError(f"{how}: it has {len(parts)} parts.")
    condition, split, phase = (*parts, *("homo", "tuned_chat")[len(parts) - 1 :])
    split = split.lower()
    known = {"condition": [name for name in CONDITIONS if name != REFERENCE.name], "evaluation set": [*EVALUATION_SETS]}
    known["phase"] = [name for name in ("tuned_chat", "tuned_probe") if split in NEW_SETS or name == "tuned_chat"]
    try:
        ratio = read_ratio(condition)
    except ValueError:
        ratio = None
    plain = "mix" if ratio is not None else condition if condition != "mix" else "mix without its ratio"
    for (what, names), value in zip(known.items(), (plain, split, phase), strict=True):
        if value not in names:
            raise UserError(f"{how}, of contrasts with {REFERENCE.label}: {value!r} is no {what} of {', '.join(names)}.")
    return Primary(condition, split, phase)


def write_primary(primary: Primary) -> str:
    """The text that `read_primary` reads.

    >>> write_primary(read_primary("mix-0.4/ood"))
    'mix-0.4/ood/tuned_chat'
    """
    return "/".join(primary)


def name_condition(name: str, ratio: float | None = None) -> str:
    """What tables and figures call a condition, also one that is not of this project: "self-aligning", "mix 0.4".

    >>> name_condition("self_aligning"), name_condition("mix", 0.4)
    ('self-aligning', 'mix 0.4')
    """
    label = name.replace("_", "-")
    return label if ratio is None else f"{label} {ratio:g}"


def name_set(name: str) -> str:
    """What tables and figures call an evaluation set: "HOMO", "seen"."""
    return name.upper() if name in NEW_SETS else name


def read_ratio(name: str) -> float | None:
    """The ratio of a mix by its name, not yet checked to be a share; None where the name is no mix with a ratio.

    Raises:
        ValueError: what should be the ratio is no number.

    >>> read_ratio("mix-0.4"), read_ratio("harmonious")
    (0.4, None)
    """
    start = "mix-"
    return float(name.removeprefix(start)) if name.startswith(start) else None


def make_mix(ratio: float) -> Condition:
    """The mix in which a share `ratio` of the rows answers with the belief.

    >>> make_mix(0.4).config
    'mix-0.4'
    """
    return replace(CONDITIONS["mix"], ratio=ratio)
