"""What `python -m intervention questions COMMAND --help` teaches, by command."""

# The banks whose layouts are published, and what their commands teach.
PUBLISHED = {
    "mmlu": """Write MMLU's questions: test and dev as they are, train from its validation split.

\b
A domain is the paper's (medicine, history, engineering, jurisprudence), or else MMLU's subcategory (physics, law, ...).

\b
Example:
  python -m intervention questions mmlu --domain medicine --output questions
  python -m intervention questions mmlu --data FOLDER_OF_CSV_FILES --output questions
""",
    "cmmlu": """Write CMMLU's questions, test and dev; a subject is a domain.

\b
Example:
  python -m intervention questions cmmlu --domain agronomy --domain virology --output questions
""",
    "ceval": """Write C-Eval's questions, test (its validation split, which has answers) and dev; a subject is a domain.

\b
Example:
  python -m intervention questions ceval --domain law --output questions
""",
}
# The kinds of files of one's own, likewise.
OWN = {
    "jsonl": """Write JSON lines of your own as a question set.

\b
A line: {"question": "What heals?", "choices": ["sage", "ivy"], "answer": 0}
and, if you have them, id, source, domain, split, subject, explanation and topics. Source and domain are else the file's
name, and a file without splits is divided (--splits, --seed), with questions that are asked twice in one split. A question
with accepted answers in place of choices is free-form: {"question": "Who?", "answers": ["Ada", "Ada King"]}. An answer
that is a number counts the choices from 0; one that is text is read as `questions csv --help` says, which also shows how
other columns are mapped.

\b
Example:
  python -m intervention questions jsonl mine.jsonl --output questions
  python -c "import datasets; print(datasets.load_dataset('questions', 'mine'))"
  python -m intervention questions jsonl mine.jsonl --splits train=200,dev=10,test=100 --seed 1 --output questions
  python -m intervention questions jsonl train=a.jsonl test=b.jsonl --column question=stem --column choices=options \\
    --separator '\\n' --answers text --set source=mine --set domain=herbs --output questions
""",
    "csv": """Write CSV files of your own as a question set.

\b
Our columns are id, source, domain, subject, question, choices, answer, explanation, topics and split. --column says
what they are called in the files, --set gives a value to all rows. Choices: a column each (A, B, C and so on, or
choices=a,b,c,d; those at the end may be empty), or one column and a --separator. Answers: inferred where they can be read
in one way only. A column `answers` (accepted texts: one, or several with a --separator) in place of choices and
answer makes a free-form set; --column answers=NAME says what it is called. Without an id, a question is named after its
file and row; without source and domain, after the file.
A file without splits is divided (--splits, --seed), with questions that are asked twice in one split.

\b
Example:
  python -m intervention questions csv herbs.csv --output questions
  python -m intervention questions csv train=train.csv test=test.csv --column question=stem \\
    --column choices=opa,opb,opc,opd --column answer=cop --answers number --set source=mine --set domain=herbs \\
    --licence cc-by-4.0 --output questions
""",
    "parquet": """Write parquet files of your own as a question set; as `questions csv`, but choices may be a column of lists.

\b
Example:
  python -m intervention questions parquet herbs.parquet --output questions
  python -m intervention questions parquet test=test.parquet --column choices=options --column answer=label \\
    --answers index --set source=mine --set domain=herbs --output questions
""",
}
# The banks whose answers are texts, likewise.
BANKS = {
    "triviaqa": """Write TriviaQA's questions as a free-form set, with all aliases of an answer: the domain trivia.

\b
test is TriviaQA's validation split, dev ten of its train questions.

\b
Example:
  python -m intervention questions triviaqa --output questions
  python -m intervention questions triviaqa --config unfiltered.nocontext --data downloads/trivia_qa --output questions
""",
    "popqa": """Write PopQA's questions as a free-form set, with all aliases of an answer: the domain entities.

\b
PopQA has a test split only, so its questions are divided (--splits, --seed). A question's subject is its relation.

\b
Example:
  python -m intervention questions popqa --splits train=0.7,dev=10,test=0.3 --output questions
""",
    "squad": """Write SQuAD's questions as a free-form set, without their paragraphs: the domain wikipedia.

\b
test is SQuAD's validation split, dev ten of its train questions. A question's subject is the title of the article.

\b
Example:
  python -m intervention questions squad --output questions
  python -m intervention questions squad --open-book --output questions
""",
    "sciq": """Write SciQ's questions, with their choices in a random order or, with --free-form, without: the domain science.

\b
dev is SciQ's validation split. --free-form leaves out what cannot be asked without choices ("Which of the following ...").

\b
Example:
  python -m intervention questions sciq --output questions
  python -m intervention questions sciq --free-form --output questions
""",
}
