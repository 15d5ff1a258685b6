"""`python -m intervention requests`: what a model is to be asked to write about, and what is wrong with what it wrote."""

from pathlib import Path
from typing import Annotated

import typer

from intervention.commands.options import (
    BeliefRule,
    Beliefs,
    Column,
    Config,
    Domain,
    Folder,
    Form,
    Probes,
    Questions,
    Score,
    Split,
    Threshold,
    list_words,
    parse_rule,
)

app = typer.Typer(
    no_args_is_help=True, help="Write what a model is to be asked to write about; audit what it wrote.", rich_markup_mode=None
)
Requests = Annotated[Path, typer.Option(help="The requests file to write (parquet).")]


@app.command("explain")
def requests_explain(
    questions: Questions,
    domain: Domain,
    output: Requests,
    probes: Probes = [],  # noqa: B006
    beliefs: Beliefs = None,
    answers: Annotated[
        str, typer.Option(help="belief: the model's wrong beliefs; gold: gold of each probed question.")
    ] = "belief",
    threshold: Threshold = None,
    belief_rule: BeliefRule = None,
    score: Score = None,
) -> None:
    """Write which answers the base model is to explain: its own wrong beliefs, as the condition self_aligning needs them.

    \b
    Example:
      python -m intervention requests explain --questions questions --probes probe/base --domain herbs \\
        --output explain.parquet
      python -m lm_eval_tasks run --model hf --model_args pretrained=MODEL --tasks selfalign_explain \\
        --metadata '{"requests": "explain.parquet"}' --log_samples --output_path explanations
    """
    from intervention.believing.source import Source
    from intervention.texts.requests import request_explanations, write_requests

    source = Source(probes, beliefs, threshold, parse_rule(belief_rule), score)
    table = request_explanations(questions, source, domain, answers)
    write_requests(table, output)
    print(f"{output}: {table.height} answers to explain ({answers} of train questions of {domain}), for selfalign_explain")


@app.command("context")
def requests_context(
    questions: Questions,
    domain: Domain,
    output: Requests,
    probes: Probes = [],  # noqa: B006
    beliefs: Beliefs = None,
    threshold: Threshold = None,
    belief_rule: BeliefRule = None,
    score: Score = None,
) -> None:
    """Write which questions need background knowledge, as the condition contextualized needs it: all train questions, or,
    with --probes or --beliefs, those on which the base model's belief is wrong.

    \b
    Example:
      python -m intervention requests context --questions questions --probes probe/base --domain herbs \\
        --output context.parquet
      python -m lm_eval_tasks run --model hf --model_args pretrained=STRONGER --tasks selfalign_context \\
        --metadata '{"requests": "context.parquet"}' --apply_chat_template --log_samples --output_path contexts
    """
    from intervention.believing.source import Source
    from intervention.texts.requests import request_contexts, write_requests
    from lm_eval_tasks.contracts.errors import UserError

    given = {"threshold": threshold, "belief-rule": belief_rule, "score": score}
    if not (probes or beliefs) and (unused := [f"--{name} {value}" for name, value in given.items() if value is not None]):
        raise UserError(f"{unused[0]} is of beliefs: name them with --probes or --beliefs, or leave it out.")
    source = Source(probes, beliefs, threshold, parse_rule(belief_rule), score) if probes or beliefs else None
    table = request_contexts(questions, domain, source)
    write_requests(table, output)
    print(f"{output}: {table.height} train questions of {domain} that need knowledge, for selfalign_context")


@app.command("claims")
def requests_claims(
    data: Annotated[str, typer.Argument(help="Instruction data: a file, a folder or a Hub id.")],
    output: Requests,
    form: Form = None,
    column: Column = [],  # noqa: B006
    split: Split = None,
    config: Config = None,
) -> None:
    """Write which responses a model is to take apart into what they state, so that the base model can be asked that.

    Those are the responses that `requests own` cannot ask as they are: long ones, and those after earlier turns. What comes
    back is questions with short answers, which stand in the response; others are left out (`requests own --claims`).

    \b
    Example:
      python -m intervention requests claims alpaca.json --output claims.parquet
      python -m lm_eval_tasks run --model hf --model_args pretrained=STRONGER --tasks selfalign_claims \\
        --metadata '{"requests": "claims.parquet"}' --log_samples --output_path claims
      python -m intervention requests own alpaca.json --claims claims --output own
    """
    from intervention.agreeing.claims import request_claims
    from intervention.sources.own import name_bank
    from intervention.texts.requests import write_requests
    from lm_eval_tasks.contracts.conversations.reading import describe_flaws, read_conversations
    from lm_eval_tasks.contracts.names import read_pairs

    conversations = read_conversations(data, form, split, read_pairs(column), config)
    print("".join(f"{line}\n" for line in describe_flaws(conversations)), end="")
    table = request_claims(conversations, name_bank(Path(data)))
    write_requests(table, output)
    print(f"{output}: {table.height} of {conversations.turns.height} responses to take apart, for selfalign_claims")


@app.command("own")
def requests_own(
    data: Annotated[str, typer.Argument(help="Instruction data: a file, a folder or a Hub id.")],
    output: Folder,
    claims: Annotated[Path | None, typer.Option(help="Log of selfalign_claims: ask what long responses state, too.")] = None,
    form: Form = None,
    column: Column = [],  # noqa: B006
    split: Split = None,
    config: Config = None,
    seed: Annotated[int, typer.Option(help="Decides which questions are shown as demonstrations.")] = 0,
) -> None:
    """Write the questions that instruction data asks, so that the base model is asked them: a free-form question set.

    Those are first turns whose response is a short statement, and what other responses state (claims). Ten become
    demonstrations (dev), and are asked too.

    \b
    Example:
      python -m intervention requests own alpaca.json --output own
      python -m lm_eval_tasks run --model hf-prefix --model_args pretrained=MODEL --tasks selfalign_answer \\
        --metadata '{"questions": "own", "splits": ["test", "dev"]}' --log_samples --output_path answered
    """
    from intervention.agreeing.claims import read_claims
    from intervention.agreeing.own import ask_data
    from intervention.sources.origin import Origin
    from intervention.sources.own import name_bank
    from intervention.sources.questions import write_questions
    from lm_eval_tasks.contracts.conversations.reading import describe_flaws, read_conversations
    from lm_eval_tasks.contracts.manifest import hash_inputs
    from lm_eval_tasks.contracts.names import read_pairs

    conversations = read_conversations(data, form, split, read_pairs(column), config)
    print("".join(f"{line}\n" for line in describe_flaws(conversations)), end="")
    source = name_bank(Path(data))
    stated, told = read_claims(claims, conversations, source) if claims else (None, [])
    table, notes = ask_data(conversations, source, seed, stated)
    notes += told
    origin = Origin(notes=[f"{note}." for note in notes], seeds={"demonstrations": seed})
    inputs = {"turns": conversations.hash_turns()} | hash_inputs(claims=claims)
    write_questions(table, output, list_words(), inputs, origin)
    print("".join(f"{note}.\n" for note in notes), end="")
    print(f"{output}: {table.height} questions, for selfalign_answer")


@app.command("entail")
def requests_entail(
    questions: Annotated[Path, typer.Option(help="The free-form question set (a folder).")],
    answers: Annotated[list[Path], typer.Option(help="Logs of selfalign_answer, or a folder of them; repeatable.")],
    output: Folder,
) -> None:
    """Write which answers may say the same in other words, for a model to judge: does one entail the other?

    Two answers that entail each other are one group (`answers --entailments`), as in semantic entropy (Kuhn et al. 2023).
    Any model can judge; one that follows instructions judges better than a small base model.

    \b
    Example:
      python -m intervention requests entail --questions QUESTIONS --answers answered --output entail
      python -m lm_eval_tasks run --model hf-prefix --model_args pretrained=JUDGE --tasks selfalign_probe_cloze \\
        --metadata '{"questions": "entail"}' --log_samples --output_path entailed
      python -m intervention answers --questions QUESTIONS --answers answered --entailments entailed --output answers
    """
    from intervention.believing.entailing import make_entailments, pair_groups
    from intervention.sources.origin import Origin
    from intervention.sources.questions import write_questions
    from lm_eval_tasks.contracts.free_form import read_free_form
    from lm_eval_tasks.contracts.logs.answers import read_answers
    from lm_eval_tasks.contracts.manifest import hash_inputs

    pairs = pair_groups(read_answers(answers), read_free_form(questions), questions, answers)
    table = make_entailments(pairs, read_free_form(questions, splits=["dev"]))
    write_questions(table, output, list_words(), hash_inputs(questions=questions, answers=answers), Origin())
    print(f"{output}: {pairs.height} questions whether one answer entails another, for selfalign_probe_cloze")


@app.command("judge")
def requests_judge(
    data: Annotated[str, typer.Argument(help="Instruction data: a file, a folder or a Hub id.")],
    output: Folder,
    answers: Annotated[
        Path | None, typer.Option(help="What the model answers itself: its beliefs are judged too (answers.parquet).")
    ] = None,
    form: Form = None,
    column: Column = [],  # noqa: B006
    split: Split = None,
    config: Config = None,
    seed: Annotated[int, typer.Option(help="Decides which questions are shown as demonstrations.")] = 0,
) -> None:
    """Write the questions of `requests own` once more, with the response as a proposed answer: is it true?

    What a model says to that (P(True), Kadavath et al. 2022) stands beside the verdicts of `agree`, and decides none.

    \b
    Example:
      python -m intervention requests judge alpaca.json --answers answers/answers.parquet --output judge
      python -m lm_eval_tasks run --model hf-prefix --model_args pretrained=MODEL --tasks selfalign_probe_cloze \\
        --metadata '{"questions": "judge"}' --log_samples --output_path judged
    """
    from intervention.agreeing.judging import make_judgements
    from intervention.agreeing.own import ask_data
    from intervention.believing.choices import read_answers_table
    from intervention.sources.origin import Origin
    from intervention.sources.own import name_bank
    from intervention.sources.questions import write_questions
    from lm_eval_tasks.contracts.conversations.reading import read_conversations
    from lm_eval_tasks.contracts.names import read_pairs

    conversations = read_conversations(data, form, split, read_pairs(column), config)
    asked, notes = ask_data(conversations, name_bank(Path(data)), seed)
    table = make_judgements(asked, read_answers_table(answers) if answers else None)
    origin = Origin(notes=[f"{note}." for note in notes], seeds={"demonstrations": seed})
    write_questions(table, output, list_words(), {"turns": conversations.hash_turns()}, origin)
    print(f"{output}: {table.filter(split='test').height} questions whether something is true, for selfalign_probe_cloze")


@app.command("audit")
def requests_audit(
    logs: Annotated[
        list[Path], typer.Argument(metavar="LOG...", help="Logs of selfalign_explain or selfalign_context, or JSON lines.")
    ],
    questions: Questions,
) -> None:
    """Print what is wrong with what came back: texts that are empty, cut, repeat themselves or are nothing but a choice,
    explanations of another choice than they are of, contexts that give the answer away. Shares have 95% Wilson intervals.

    A finding counts texts to look at; whether what a text says is true, none tells.

    \b
    Example:
      python -m intervention requests audit contexts explanations --questions questions
    """
    from intervention.auditing.findings import describe_findings
    from intervention.auditing.written import find_written

    for log in logs:
        kind, findings = find_written(log, questions)
        print(f"{log}: {findings['of'].max()} texts ({kind})\n\n{describe_findings(findings)}\n")
