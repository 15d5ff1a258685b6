import gzip
import hashlib
import json
import math

import polars as pl
import pytest

from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.logs.probe_table import OPTIONAL, PROBE_SCHEMA, check_probes, write_probes
from lm_eval_tasks.contracts.logs.samples import read_probes
from lm_eval_tasks.contracts.logs.scores import read_probe
from lm_eval_tasks.contracts.questions import QUESTION_SCHEMA, hash_questions

CHOICES = ["one", "two", "three", "four"]
LOGLIKELIHOODS = [-3.0, -0.5, -2.0, -4.0]
PER_CHARACTER = [-1.0, -0.17, -0.4, -1.0]
PROMPT = hashlib.sha256(b"x").hexdigest()
PMI = [0.5, 2.0, 0.1, -0.3]


def make_doc(number=1, order=0, **changes):
    """What a task logs of one question whose gold is "two", shown rotated by `order`."""
    question = {"id": str(number), "source": "s", "domain": "d", "subject": None, "question": f"Which is {number}?"}
    question |= {"choices": CHOICES, "answer": 1, "explanation": None, "topics": []}
    rotate = lambda values: [values[(i + order) % 4] for i in range(4)]  # noqa: E731
    shown = question | {"choices": rotate(CHOICES), "answer": (1 - order) % 4}
    rest = {"split": "test", "model": "m", "run": "", "phase": "base_probe", "scoring": "letter", "draw": 0, "order": order}
    rest |= {"category": "c", "loglikelihoods_per_character": rotate(PER_CHARACTER), "loglikelihoods_pmi": rotate(PMI)}
    rest |= {"question_hash": hash_questions(pl.DataFrame([question], schema=QUESTION_SCHEMA))[0], "task": "t"}
    return shown | read_probe(rotate(LOGLIKELIHOODS), shown["answer"]) | rest | changes


def write_log(folder, *docs, name="samples_t_1.jsonl", end="\n"):
    lines = [
        json.dumps({"doc_id": i, "doc": doc, "arguments": {"gen_args_0": {"arg_0": "x"}}, "prompt_hash": PROMPT, "acc": 1.0})
        for i, doc in enumerate(docs)
    ]
    file = folder / name
    file.write_text("\n".join(lines) + end)
    return file


def test_a_probe_is_the_softmax_over_the_choices():
    probe = read_probe(LOGLIKELIHOODS, 1)
    weights = [math.exp(value) for value in LOGLIKELIHOODS]
    assert probe["probs"] == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-15)
    assert probe["choice_mass"] == pytest.approx(sum(weights))
    assert (probe["prediction"], probe["correct"]) == (1, True)
    assert read_probe([-1000.0, -1001.0], 1)["probs"][0] == pytest.approx(1 / (1 + math.exp(-1)))
    for bad in (math.nan, -math.inf):
        with pytest.raises(ValueError, match="not a finite number"):
            read_probe([bad, 0.0], 0)


def test_logs_tables_files_and_folders_read_alike(tmp_path):
    log = write_log(tmp_path, make_doc(1), make_doc(2))
    table = read_probes(log)
    assert table.schema == PROBE_SCHEMA
    assert table.height == 2
    assert table["prompt_hash"].to_list() == [PROMPT[:16]] * 2
    assert read_probes(tmp_path).equals(table)
    write_probes(table, tmp_path / "elsewhere" / "probes.parquet")
    assert read_probes(tmp_path / "elsewhere").equals(table)
    packed = tmp_path / "packed" / "samples_t.jsonl.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert read_probes(packed).equals(table)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_rotated_question_is_rotated_back(tmp_path, order):
    table = read_probes(write_log(tmp_path, make_doc(order=order)))
    row = table.row(0, named=True)
    assert row["choices"] == CHOICES
    assert (row["answer"], row["prediction"], row["correct"], row["order"]) == (1, 1, True, order)
    assert row["loglikelihoods"] == LOGLIKELIHOODS
    assert (row["loglikelihoods_per_character"], row["loglikelihoods_pmi"]) == (PER_CHARACTER, PMI)
    assert row["probs"] == pytest.approx(read_probe(LOGLIKELIHOODS, 1)["probs"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probs": [0.5, 0.5, 0.1, 0.1]}, "row 2.*do not sum to 1"),
        ({"probs": [0.5, 0.5]}, "row 2.*not one a choice"),
        ({"probs": [1.5, -0.5, 0.0, 0.0]}, "row 2.*hold a negative one"),
        ({"probs": [0.5, 0.5, None, 0.0]}, "row 2.*missing, NaN or infinite"),
        ({"probs": None}, "row 2.*probs None is missing"),
        ({"prediction": 9}, "row 2.*prediction 9 is not the index"),
        ({"prediction": 0}, "row 2.*prediction 0 is not the most probable"),
        ({"confidence": 0.2}, "row 2.*confidence 0.2 is not the largest"),
        ({"correct": False}, "row 2.*correct False does not fit"),
        ({"phase": "later"}, "phase 'later' is none of"),
        ({"order": None}, "row 2.*order None is missing"),
        ({"order": 4}, "row 2.*order 4 is not how far"),
        ({"loglikelihoods_pmi": [0.0, 1.0]}, "row 2.*loglikelihoods_pmi .* are not one a choice"),
        ({"loglikelihoods": [-1.0, None, -1.0, -1.0]}, "row 2.*loglikelihoods .* hold a missing"),
        ({"question": "Which is it?"}, "row 2.*is not the hash"),
        ({"answer": 2, "correct": False}, "row 2.*is not the hash"),
        ({"answer": 7}, "row 2.*answer 7 is not"),
        ({"question_hash": None}, "line 2.*no sample of a selfalign"),
        ({"id": "1", "question": "Which is 1?", "question_hash": make_doc(1)["question_hash"]}, "more than once"),
        ({"probs": [0.5, math.nan, 0.5, 0.0]}, "line 2: probs is NaN"),
        ({"loglikelihoods": [-1.0, -math.inf, -1.0, -1.0]}, "line 2: loglikelihoods is -Infinity"),
        ({"choice_mass": math.inf}, "line 2: choice_mass is Infinity"),
        ({"loglikelihoods": [-1.0, "-inf", -1.0, -1.0]}, 'line 2: loglikelihoods is "-inf"'),
        ({"confidence": "nan"}, 'line 2: confidence is "nan"'),
        ({"task": "u"}, "mixed tasks: line 1 is a sample of t, line 2 of u"),
        ({"task": None}, "row 2.*task None is missing"),
        ({"draw": "first"}, "line 2 is not a sample of a selfalign task"),
    ],
)
def test_the_first_wrong_sample_is_named(tmp_path, change, message):
    write_log(tmp_path, make_doc(1), make_doc(2) | change)
    with pytest.raises(UserError, match=message) as error:
        read_probes(tmp_path)
    assert "samples_t_1.jsonl" in str(error.value) or str(tmp_path) in str(error.value)


@pytest.mark.parametrize("name", ["probs", "loglikelihoods", "loglikelihoods_pmi", "choice_mass", "confidence"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_in_a_table_is_named(tmp_path, name, value):
    table = read_probes(write_log(tmp_path, make_doc(1), make_doc(2)))
    bad = pl.lit(value)
    if isinstance(table.schema[name], pl.List):
        bad = pl.concat_list(bad, pl.col(name).list.slice(1))
    write_probes(table.with_columns(pl.when(id="2").then(bad).otherwise(name).alias(name)), tmp_path / "probes.parquet")
    with pytest.raises(UserError, match=rf"probes.parquet, row 2 \(id '2'\): {name} .*(infinite|finite number)"):
        read_probes(tmp_path / "probes.parquet")


def test_a_table_may_lack_optional_columns_and_no_others(tmp_path):
    table = read_probes(write_log(tmp_path, make_doc(1), make_doc(2)))
    file = tmp_path / "probes.parquet"
    table.drop(OPTIONAL).write_parquet(file)
    read = read_probes(file)
    assert read.schema == PROBE_SCHEMA
    empty = [pl.lit(None).cast(PROBE_SCHEMA[name]).alias(name) for name in OPTIONAL if name != "score"]
    assert read.equals(table.with_columns(empty))  # of a version that says no score it is the sum
    assert check_probes(table.drop(OPTIONAL), "here").equals(read)
    table.drop("order").write_parquet(file)
    with pytest.raises(UserError, match="no column 'order'"):
        read_probes(file)
    table.with_columns(draw=pl.lit("first")).write_parquet(file)
    with pytest.raises(UserError, match="a column is not of a probe table's type"):
        read_probes(file)
    text = table.with_columns(pl.col("probs").cast(pl.List(pl.String)))
    text.with_columns(probs=pl.concat_list(pl.lit("inf"), pl.col("probs").list.slice(1))).write_parquet(file)
    with pytest.raises(UserError, match=r"row 1 .*probs .inf, .* infinite"):
        read_probes(file)


def test_a_log_of_an_earlier_version_reads_with_nulls(tmp_path):
    later = ("category", "loglikelihoods_per_character", "loglikelihoods_pmi")
    doc = {key: value for key, value in make_doc(order=3).items() if key not in later}
    row = read_probes(write_log(tmp_path, doc)).row(0, named=True)
    assert [row[name] for name in later] == [None] * 3
    assert row["loglikelihoods"] == LOGLIKELIHOODS


def test_a_log_cut_in_the_middle_of_a_line_is_named(tmp_path):
    log = write_log(tmp_path, make_doc(1), make_doc(2))
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines)[:-40])
    with pytest.raises(UserError, match=r"samples_t_1\.jsonl, line 2 is not a whole line of JSON \(the file ends"):
        read_probes(tmp_path)
    for damage in (lines[0][:-40] + lines[1], lines[0] + "\0" * 40 + "\n", lines[0].strip() + lines[1], lines[0] + "{}}\n"):
        log.write_text(damage)
        with pytest.raises(UserError, match=r"samples_t_1\.jsonl, line \d is not a whole line of JSON\. Ask again"):
            read_probes(tmp_path)
    log.write_bytes(log.read_bytes().replace(b"Which", b"\xff\xfe"))
    with pytest.raises(UserError, match=r"samples_t_1\.jsonl, line 1 is not UTF-8 text"):
        read_probes(tmp_path)
    log.write_text(lines[0] + "\n\n" + lines[1][:-40])
    with pytest.raises(UserError, match=r"samples_t_1\.jsonl, line 4 is not a whole line of JSON \(the file ends"):
        read_probes(tmp_path)
    for strange in ("3\n", '{"doc": 1}\n', '["doc"]\n'):
        log.write_text(lines[0] + strange)
        with pytest.raises(UserError, match=r"samples_t_1\.jsonl, line 2.* no.* sample of a selfalign task"):
            read_probes(tmp_path)


def test_a_packed_log_cut_in_the_middle_is_named(tmp_path):
    log = write_log(tmp_path, *map(make_doc, range(40)))
    whole = gzip.compress(log.read_bytes())
    packed = tmp_path / "samples_t_2.jsonl.gz"
    packed.write_bytes(whole)
    assert read_probes(packed).equals(read_probes(log))
    flipped = bytearray(whole)
    flipped[len(flipped) // 2] ^= 0x55
    for damaged in (whole[: len(whole) // 2], whole[:-4], whole[:9], bytes(flipped), whole + b"more"):
        packed.write_bytes(damaged)
        with pytest.raises(UserError, match=r"samples_t_2\.jsonl\.gz is cut or damaged .*fetch the file again"):
            read_probes(packed)


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_probes(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no sample log"):
        read_probes(tmp_path)
    for nothing in ("", "\n\n"):
        (tmp_path / "samples_t.jsonl").write_text(nothing)
        with pytest.raises(UserError, match=r"samples_t.jsonl holds no samples"):
            read_probes(tmp_path)
    (tmp_path / "samples_t.jsonl.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(UserError, match=r"samples_t.jsonl.gz holds no samples"):
        read_probes(tmp_path / "samples_t.jsonl.gz")
    (tmp_path / "probes.parquet").write_text("no parquet")
    with pytest.raises(UserError, match="not a parquet file"):
        read_probes(tmp_path / "probes.parquet")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "probes.parquet")
    with pytest.raises(UserError, match="no column 'id'"):
        read_probes(tmp_path / "probes.parquet")


def test_two_logs_of_the_same_questions_are_named(tmp_path):
    write_log(tmp_path, make_doc(1))
    write_log(tmp_path, make_doc(1), name="samples_t_2.jsonl")
    with pytest.raises(UserError, match=r"samples_t_1.*samples_t_2.*asked s/d id '1' in phase base_probe more than once"):
        read_probes(tmp_path)
    write_log(tmp_path, make_doc(1, order=1), name="samples_t_2.jsonl")
    assert read_probes(tmp_path).height == 2


@pytest.mark.parametrize("change", [{}, {"order": 1}, {"draw": 1}])
def test_two_tasks_that_ask_one_question_in_one_phase_are_named(tmp_path, change):
    write_log(tmp_path, make_doc(1), make_doc(2))
    write_log(tmp_path, make_doc(3), make_doc(2, **{"task": "u"} | change), name="samples_u_1.jsonl")
    message = "samples_t_1.*samples_u_1.*mixed tasks: m was asked s/d id '2' in phase base_probe by t and by u"
    log = tmp_path / "samples_u_1.jsonl"
    with pytest.raises(UserError, match="mixed tasks: line 1 is a sample of t, line 2 of u"):
        read_probes(log)
    write_log(tmp_path, make_doc(2, **{"task": "u"} | change), name=log.name)
    with pytest.raises(UserError, match=message):
        read_probes(tmp_path)
    write_log(tmp_path, make_doc(2, task="u", phase="base_context"), name=log.name)
    assert read_probes(tmp_path).height == 3


def renumber(log, *ids):
    lines = [json.loads(line) | {"doc_id": i} for line, i in zip(log.read_text().splitlines(), ids, strict=True)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_log_that_lacks_samples_names_the_first(tmp_path):
    log = write_log(tmp_path, make_doc(1), make_doc(2), make_doc(3))
    renumber(log, 2, 0, 1)  # several processes each write their share
    assert read_probes(log).height == 3
    for ids, missing in (((0, 1, 3), 2), ((1, 2, 3), 0), ((4, 0, 2), 1)):
        renumber(log, *ids)
        with pytest.raises(
            UserError, match=rf"samples_t_1.jsonl: doc_id {missing} is missing, so the log has a gap.*--samples"
        ):
            read_probes(log)
    renumber(log, 0, 1, 0)
    with pytest.raises(UserError, match="line 3: a duplicate: doc_id 0 is also in line 1"):
        read_probes(log)
    renumber(log, 0, None, 1)
    with pytest.raises(UserError, match="line 2: the sample has no doc_id"):
        read_probes(log)


def test_the_result_file_of_the_same_run_tells_whether_a_log_is_whole(tmp_path):
    log = write_log(tmp_path, make_doc(1), make_doc(2), make_doc(3))
    results = tmp_path / "results_1.json"

    def count(n):
        results.write_text(json.dumps({"n-samples": {"t": {"original": 9, "effective": n}}}))

    count(4)
    with pytest.raises(UserError, match=r"holds 3 samples, but results_1\.json counts 4 \(the last doc_id is 2"):
        read_probes(log)
    renumber(log, 1, 4, 8)
    with pytest.raises(UserError, match=r"counts 4 \(doc_id 0 is missing"):
        read_probes(log)
    count(3)
    assert read_probes(log)["id"].to_list() == ["1", "2", "3"]
    results.rename(tmp_path / "results_2.json")  # of another run
    with pytest.raises(UserError, match="doc_id 0 is missing"):
        read_probes(log)


def test_logs_of_texts_are_no_probes(tmp_path):
    log = write_log(tmp_path, make_doc(1))
    texts = write_log(tmp_path, make_doc(1, task="selfalign_explain"), name="samples_selfalign_explain_1.jsonl")
    assert read_probes(tmp_path).equals(read_probes(log))
    with pytest.raises(UserError, match="holds texts that selfalign_explain asked for, and no probes"):
        read_probes(texts)


def test_the_hash_of_a_question_is_what_it_always_was():
    parts = ["Wer wär's?", "é", "知道", "a:1", "3"]
    table = pl.DataFrame({"question": parts[:1], "choices": [parts[1:4]], "answer": [3]})
    plain = "".join(f"{len(part)}:{part}" for part in parts)
    assert hash_questions(table).to_list() == [hashlib.sha256(plain.encode()).hexdigest()[:16]]


def test_only_the_columns_that_are_asked_for_are_kept(tmp_path):
    log = write_log(tmp_path, make_doc(1), make_doc(2))
    assert read_probes(log, ["probs", "id"]).equals(read_probes(log).select("probs", "id"))
    write_log(tmp_path, make_doc(1), make_doc(2) | {"choice_mass": None, "category": None, "confidence": 0.1})
    with pytest.raises(UserError, match=r"row 2.*confidence 0.1 is not the largest"):
        read_probes(log, ["id"])
    with pytest.raises(UserError, match="more than once"):
        read_probes([write_log(tmp_path, make_doc(1)), write_log(tmp_path, make_doc(1), name="samples_t_2.jsonl")], ["id"])


def test_a_question_that_several_models_were_asked_is_hashed_once(tmp_path, monkeypatch):
    hashed = []
    monkeypatch.setattr(
        "lm_eval_tasks.contracts.logs.samples.hash_questions", lambda t: hashed.append(t.height) or hash_questions(t)
    )
    logs = [write_log(tmp_path, *(make_doc(i, model=m) for i in range(5)), name=f"samples_{m}_1.jsonl") for m in "abc"]
    assert read_probes(logs).height == 15
    assert sum(hashed) == 5
    wrong = make_doc(3, model="d") | {"question_hash": "0" * 16}
    with pytest.raises(UserError, match=r"samples_d_1.jsonl, row 2 \(id '3'\): question_hash .* is not the hash"):
        read_probes([*logs, write_log(tmp_path, make_doc(1, model="d"), wrong, name="samples_d_1.jsonl")])


def test_a_table_read_in_parts_is_the_same_and_its_rows_are_counted_from_the_start(tmp_path, monkeypatch):
    table = read_probes(write_log(tmp_path, *(make_doc(i) for i in range(7))))
    file = tmp_path / "probe[s].parquet"
    write_probes(table, file)
    monkeypatch.setattr("lm_eval_tasks.contracts.logs.samples.ROWS_AT_ONCE", 3)
    assert read_probes(file).equals(table)
    changes = {
        "question": (pl.lit("Another?"), r"row 6 \(id '5'\): question_hash .* is not the hash"),
        "answer": (pl.lit(9), r"row 6 \(id '5'\): answer 9 is not the 0-based index"),
        "confidence": (pl.lit(0.1), r"row 6 \(id '5'\): confidence 0.1 is not the largest"),
    }
    for name, (value, message) in changes.items():
        write_probes(table.with_columns(pl.when(id="5").then(value).otherwise(name).alias(name)), file)
        with pytest.raises(UserError, match=message):
            read_probes(file)


def test_what_the_question_set_says_is_not_hashed_again_and_all_else_is(tmp_path, monkeypatch):
    table = read_probes(write_log(tmp_path, make_doc(1), make_doc(2), make_doc(3, order=2)))
    known, file = table.select(*QUESTION_SCHEMA, "question_hash"), tmp_path / "probes.parquet"
    hashed = []
    monkeypatch.setattr(
        "lm_eval_tasks.contracts.logs.samples.hash_questions", lambda t: hashed.append(t.height) or hash_questions(t)
    )
    for given, count in ((known, 0), (known.head(1), 2), (None, 3)):
        write_probes(table, file)
        assert read_probes(file, known=given).equals(table)
        assert sum(hashed) == count
        hashed.clear()
    for name, value in (("question", "Another?"), ("choices", CHOICES[::-1]), ("question_hash", "0" * 16)):
        write_probes(table.with_columns(pl.when(id="2").then(pl.lit(value)).otherwise(name).alias(name)), file)
        with pytest.raises(UserError, match=r"row 2 \(id '2'\): question_hash .* is not the hash"):
            read_probes(file, known=known)
