"""The data set that `agree --action` writes: in the input's form, with what was done told, and read by the libraries."""

import json

import datasets
import polars as pl
import pytest
import yaml
from conftest import run_command

from intervention.agreeing.actions import ACTIONS, MASKED, check_action, read_texts, write_data
from intervention.publishing.package import read_package
from lm_eval_tasks.contracts.conversations.reading import read_conversations
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.files import write_parquet
from lm_eval_tasks.contracts.manifest import read_manifest

ROWS = [
    [("Which hue?", "It is red.")],
    [("Which herb?", "Säge."), ("Which tree?", "An oak."), ("And then?", "Another.")],
    [("Hello?", "Hi.")],
    [("Nothing?", "")],  # no turn to judge
]
# Of each turn: its verdict, the share of the most frequent answer, where it is overruled.
JUDGED = {
    (0, 0): ("agrees", 0.9, None, None),
    (1, 0): ("clashes", 0.75, 0, 4),
    (1, 1): ("undecided", 0.5, None, None),
    (1, 2): ("clashes", 0.5, None, None),
    (2, 0): ("no_belief", 0.25, None, None),
}
FORMS = {
    "messages": lambda turns: {
        "messages": [
            {"role": role, "content": text}
            for pair in turns
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
    },
    "sharegpt": lambda turns: {
        "conversations": [
            {"from": role, "value": text} for pair in turns for role, text in zip(("human", "gpt"), pair, strict=True)
        ]
    },
    "alpaca": lambda turns: {"instruction": turns[0][0], "input": "", "output": turns[0][1]},
    "prompt_completion": lambda turns: {"prompt": turns[0][0], "completion": turns[0][1]},
}  # fmt: skip


def make_agreement(folder, form="messages", judged=JUDGED):
    """Conversations in a form, and the row table of their turns."""
    file, table = folder / "rows.jsonl", folder / "agreement.parquet"
    file.write_text("\n".join(json.dumps({"id": f"r{i}"} | FORMS[form](row)) for i, row in enumerate(ROWS)))
    data = read_conversations(file)
    values = [judged[turn] for turn in data.turns.select("row", "turn").iter_rows()]
    names = ("verdict", "score", "conflict_start", "conflict_end")
    found = pl.DataFrame(values, schema=dict(zip(names, (pl.String, pl.Float64, pl.Int64, pl.Int64))), orient="row")
    write_parquet(data.turns.select("row", "turn", "response").hstack(found), table)
    return data, table


def act(folder, action, form="messages", **options):
    data, table = make_agreement(folder, form)
    told = write_data(data, table, action, folder / "data", command=["agree"], **options)
    return told, read_conversations(folder / "data")


def write_texts(folder, texts):
    file = folder / "texts.jsonl"
    file.write_text("\n".join(json.dumps({"row": row, "turn": turn, "text": text}) for (row, turn), text in texts.items()))
    return file


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_writes_every_form_as_it_came(tmp_path, form, action):
    texts = {(1, 0): "Sage.", (1, 2): "No more."} if action == "rewrite" else {}
    told, written = act(tmp_path, action, form, **({"rewrites": write_texts(tmp_path, texts)} if texts else {}))
    data, _ = make_agreement(tmp_path, form)
    assert (written.form, written.columns) == (data.form, data.columns)
    assert told.startswith(f"{action}: ")
    own, before = written.rows.select(data.rows.columns), data.rows
    if action == "drop":
        before = before.filter(pl.col("row") != 1).with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))
    changed = [1] if action == "rewrite" else []
    assert own.filter(~pl.col("row").is_in(changed)).equals(before.filter(~pl.col("row").is_in(changed)))
    assert (own.schema, own.height) == (data.rows.schema, 3 if action == "drop" else 4)
    assert written.rows.schema["weight"] == pl.Float64
    assert written.rows.schema["masked"] == MASKED
    assert (
        datasets.load_dataset(str(tmp_path / "data"), split="train", cache_dir=str(tmp_path / "cache")).num_rows == own.height
    )
    manifest = read_manifest(tmp_path / "data")
    assert (manifest["stage"], manifest["config"]["action"], manifest["config"]["form"]) == ("action", action, form)
    card = (tmp_path / "data/README.md").read_text()
    assert f"The action was `{action}`. {ACTIONS[action][0]}" in card
    assert told.partition(": ")[2] in card
    assert str(tmp_path) not in card


def test_the_verdict_of_a_row_is_the_worst_of_its_turns(tmp_path):
    told, written = act(tmp_path, "keep")
    assert told == "keep: 2 responses that clash, in 1 rows, stay as they are"
    assert written.rows["verdict"].to_list() == ["agrees", "clashes", "no_belief", None]
    assert written.rows["weight"].to_list() == [1.0] * 4
    assert written.rows["masked"].to_list() == [[]] * 4


def test_drop_leaves_out_the_rows_that_clash(tmp_path):
    told, written = act(tmp_path, "drop")
    assert told == "drop: 2 responses that clash, in 1 rows, left out"
    assert written.rows["id"].to_list() == ["r0", "r2", "r3"]


def test_the_weight_is_one_less_the_score(tmp_path):
    told, written = act(tmp_path, "weight")
    assert written.rows["weight"].to_list() == [1.0, 0.25, 1.0, 1.0]
    assert told == "weight: 2 responses that clash, in 1 rows, weighed less: 0.250 on average, 0.250 at least"


def test_masked_is_where_the_model_overrules_or_all(tmp_path):
    told, written = act(tmp_path, "mask")
    spans = [{"turn": 0, "start": 0, "end": 4}, {"turn": 2, "start": 0, "end": len("Another.")}]
    assert written.rows["masked"].to_list() == [[], spans, [], []]
    assert told.endswith("masked: 1 where the model overrules them, 1 as a whole")


def test_rewritten_responses_stand_in_place_and_the_old_ones_beside(tmp_path):
    told, written = act(tmp_path, "rewrite", rewrites=write_texts(tmp_path, {(1, 0): "Sage.", (1, 2): "{{ x }}", (9, 9): "?"}))
    said = [message["content"] for message in written.rows["messages"][1] if message["role"] == "assistant"]
    assert said == ["Sage.", "An oak.", "{{ x }}"]
    before = [{"turn": 0, "response": "Säge."}, {"turn": 2, "response": "Another."}]
    assert written.rows["response_before"].to_list() == [None, before, None, None]
    assert "response_before" in (tmp_path / "data/README.md").read_text()
    assert told == "rewrite: 2 responses that clash, in 1 rows, rewritten"


def test_without_a_clash_nothing_changes_and_it_is_said(tmp_path):
    data, table = make_agreement(tmp_path, judged=dict.fromkeys(JUDGED, ("agrees", 1.0, None, None)))
    for action in ("keep", "drop", "weight", "mask"):
        assert write_data(data, table, action, tmp_path / action) == f"{action}: no turn clashes, so that nothing was changed"
        assert read_conversations(tmp_path / action).rows["weight"].to_list() == [1.0] * 4


@pytest.mark.parametrize(
    ("action", "rewrites", "message"),
    [
        ("masks", None, "--action 'masks' (is 'mask' meant?) is none of keep, drop, weight, mask, rewrite."),
        ("rewrite", None, "--action rewrite needs the texts: --rewrites LOG."),
        ("drop", "texts", "--action drop takes no texts: leave out --rewrites."),
        ("rewrite", "nowhere", "is no file. Name JSON lines with row, turn and text."),
    ],
)
def test_an_action_that_is_none_is_one_line(tmp_path, action, rewrites, message):
    with pytest.raises(UserError) as caught:
        check_action(action, rewrites and tmp_path / rewrites)
    assert message in str(caught.value)


def test_what_an_action_lacks_is_counted_and_the_first_is_named(tmp_path):
    with pytest.raises(UserError, match="no text for 1 of 2 turns that clash, the first in row 1, turn 2"):
        act(tmp_path, "rewrite", rewrites=write_texts(tmp_path, {(1, 0): "Sage."}))
    assert not (tmp_path / "data").exists()
    data, table = make_agreement(tmp_path)
    pl.read_parquet(table).drop("score").write_parquet(table)
    with pytest.raises(UserError, match=r"which 2 of 2 turns that clash lack, the first in row 1, turn 0.*--answers"):
        write_data(data, table, "weight", tmp_path / "data")
    pl.read_parquet(table).drop("conflict_start", "conflict_end").write_parquet(table)
    assert write_data(data, table, "mask", tmp_path / "data").endswith("0 where the model overrules them, 2 as a whole")
    pl.read_parquet(table).with_columns(row=pl.Series([0, 1, 2, 3, 3]), verdict=pl.lit("clashes")).write_parquet(table)
    with pytest.raises(UserError, match="every row has a turn that clashes"):
        write_data(data, table, "drop", tmp_path / "none")


@pytest.mark.parametrize("line", ['{"row": 1, "turn": 0}', '{"row": "1", "turn": 0, "text": "x"}', "[1]",
                                  '{"row": 1, "turn": true, "text": "x"}', '{"row": 1, "turn": 0, "text": " "}'])  # fmt: skip
def test_lines_that_are_no_texts_are_named(tmp_path, line):
    (tmp_path / "texts.jsonl").write_text(f'{{"row": 0, "turn": 0, "text": "a"}}\n{line}\n')
    with pytest.raises(UserError, match=r"texts\.jsonl, line 2 has no whole numbers `row` and `turn`"):
        read_texts(tmp_path / "texts.jsonl")


def test_two_texts_for_a_turn_are_refused(tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"row": 0, "turn": 0, "text": "a"}\n{"row": 0, "turn": 0, "text": "b"}\n')
    with pytest.raises(UserError, match="line 2 has another text for row 0, turn 0"):
        read_texts(tmp_path / "texts.jsonl")


def test_what_is_written_can_be_pushed_as_it_stands(tmp_path):
    act(tmp_path, "mask")
    package = read_package(tmp_path / "data")
    assert (package.stage, package.left_out) == ("action", [])
    assert sorted(package.files) == ["README.md", "default/train.parquet", "manifest.json"]
    assert [term.licence for term in package.terms] == ["unknown"]
    header = yaml.safe_load((tmp_path / "data/README.md").read_text().split("---")[1])
    assert header["tags"] == ["selfalign", "knowledge", "instruction-tuning"]
    pl.read_parquet(tmp_path / "data/default/train.parquet").head(1).write_parquet(tmp_path / "data/default/train.parquet")
    with pytest.raises(UserError, match="is not as it was written"):
        read_package(tmp_path / "data")


def test_the_licence_is_that_of_the_datas_own_card_and_of_what_was_written_anew(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    act(tmp_path, "mask")
    assert [(term.part, term.licence) for term in read_package(tmp_path / "data").terms] == [("instruction data", "cc-by-4.0")]
    assert "license: cc-by-4.0" in (tmp_path / "data/README.md").read_text()
    act(tmp_path, "rewrite", rewrites=write_texts(tmp_path, {(1, 0): "Sage.", (1, 2): "No more."}))
    assert [term.licence for term in read_package(tmp_path / "data").terms] == ["cc-by-4.0", "unknown"]
    assert "license: unknown" in (tmp_path / "data/README.md").read_text()


def test_the_command_refuses_an_unknown_action_before_it_reads_anything(tmp_path):
    words = ("python", "-m", "intervention", "agree", tmp_path / "no.jsonl", "--readings", tmp_path, "--output", tmp_path / "o")
    done = run_command(*words, "--action", "burn")
    assert done.returncode == 2
    assert "--action 'burn' is none of keep, drop, weight, mask, rewrite." in done.stderr
    done = run_command(*words, "--rewrites", tmp_path / "texts.jsonl")
    assert "--rewrites is for --action rewrite alone" in done.stderr
