"""Instruction sets compared as a user compares them: the table, the files, the figure, and what is said of bad input."""

import json
import sys
from pathlib import Path

import polars as pl
import pytest
from conftest import ROOT, run_command
from instruction_sets import make_general, make_row, make_table, write_conditions, write_set
from matplotlib.colors import to_rgb

from intervention.comparing.compare import compare_sets, group_conditions, name_folders
from intervention.comparing.loveplot import COLOURS, plot_differences
from intervention.released import convert_released
from lm_eval_tasks.contracts.errors import UserError
from lm_eval_tasks.contracts.manifest import read_manifest

RELEASED = ROOT.parent / "shared/reference/released_groups"
MIXES = tuple(f"mix-{ratio}" for ratio in (0.05, 0.1, 0.2, 0.4, 0.6, 0.8))
TWELVE = ("harmonious", "incompatible", "self_aligning", "contextualized", "random_wrong", *MIXES, "gold")


def read_cells(text: str) -> dict[str, list[str]]:
    """The first table of a text: name of a row -> cells."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n\n")[0].splitlines()]
    return {line[0]: line[1:] for line in lines}


def test_the_table_puts_conditions_beside_their_reference(tmp_path: Path) -> None:
    shared = [make_row(i) for i in range(8)]
    other = [make_row(i, "harmonious", gold_letter="A", response_letter="A", reason="So it is.") for i in range(4)]
    folder = write_set(
        tmp_path / "set",
        {"herbs_harmonious": make_table([*other, make_general(1)]), "herbs_incompatible": make_table(shared)},
    )
    cells = read_cells(compare_sets([folder]))
    assert cells[""] == ["incompatible", "harmonious", "SMD"]
    assert cells["questions"] == ["8", "4", ""]
    assert cells["general instructions"] == ["0", "1", ""]
    assert cells["confidence, mean (SD)"] == ["0.626 (0.023)", "0.615 (0.013)", "−0.61†"]
    assert cells["= gold, %"] == ["100.0", "100.0", ""]
    assert cells["gold A, %"] == ["25.0", "100.0", "+2.45†"]  # 0.75 / sqrt(0.1875 / 2)
    assert cells["gold letters"] == ["", "", "2.45†"]
    assert cells["response words, mean (SD)"] == ["3.0 (0.0)", "6.0 (0.0)", "n/a†"]
    assert cells["explanation words, mean (SD)"] == ["–", "3.0 (0.0)", ""]
    assert cells["explained, %"] == ["0.0", "100.0", "n/a†"]
    turned = read_cells(compare_sets([folder], "harmonious"))
    assert turned["gold A, %"] == ["100.0", "25.0", "−2.45†"]


def test_the_files_say_what_the_table_says(tmp_path: Path) -> None:
    folder = write_conditions(tmp_path / "set", *TWELVE)
    words = (sys.executable, "-m", "intervention", "compare", folder, "--output")
    done = run_command(*words, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    tables = {f"{name}.{form}" for name in ("balance", "differences") for form in ("csv", "parquet")}
    assert names == tables | {"balance.md", "loveplot.png", "loveplot.svg", "manifest.json"}
    assert (tmp_path / "out/balance.md").read_text().split("\n\n![")[0] in done.stdout
    differences = pl.read_parquet(tmp_path / "out/differences.parquet")
    assert pl.read_csv(tmp_path / "out/differences.csv").columns == differences.columns
    assert set(differences["condition"]) == set(TWELVE) - {"incompatible"}
    row = differences.row(by_predicate=(pl.col("condition") == "self_aligning") & (pl.col("measure") == "= gold"), named=True)
    assert (row["reference"], row["difference"], row["smd"], row["n"]) == ("incompatible", -1, None, 40)
    assert pl.read_parquet(tmp_path / "out/balance.parquet")["condition"].to_list() == list(TWELVE)
    assert done.stdout.count("| incompatible") == 3  # four conditions beside it in a table
    manifest = read_manifest(tmp_path / "out")
    assert manifest["stage"] == "compare"
    assert list(manifest["inputs"]) == ["instructions"]
    again = run_command(*words, tmp_path / "again")
    assert again.returncode == 0
    for name in names - {"manifest.json"}:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name


def test_the_figure_has_a_place_for_each_condition_and_measure(tmp_path: Path) -> None:
    names = [name for name in TWELVE if name != "incompatible"]
    rows = [
        {"reference": "incompatible", "condition": name, "measure": measure, "value": 0.0, "smd": smd, "low": low, "high": high}
        for name in names
        for measure, smd, low, high in (
            ("confidence", -0.2, -0.3, -0.1),
            ("gold letters", 3.0, 2.5, 3.5),
            ("gold A", 0.5, 0.4, 0.6),
            ("= gold", 0.5, 0.4, 0.6),
            ("prompt words", None, None, None),
            ("explained", 0.0, None, None),
        )
    ]
    figure = plot_differences(pl.DataFrame(rows, infer_schema_length=None).with_columns(n=10, n_reference=12))
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["confidence", "gold letters", "prompt words"]
    points = [line for line in axis.lines if len(line.get_xdata()) == 1]
    heights = [line.get_ydata()[0] for line in points]
    assert len(set(heights)) == len(heights) == 3 * len(names)  # none on another
    assert sorted(text.get_text() for text in axis.texts) == ["3.0"] * 11 + ["n = 10 to 12 rows a condition"] + ["n/a"] * 11
    assert [line.get_xdata()[0] for line in points if line.get_xdata()[0] == 0.2] == [0.2] * 11  # without a sign
    key = figure.legends[0]
    assert [text.get_text() for text in key.get_texts()][:3] == ["harmonious", "self-aligning", "contextualized"]
    assert key.get_title().get_text() == "Nowhere any difference: explained.\nIn each band from top to bottom:"
    shades = [line.get_markerfacecolor() for line in points if line.get_marker() == "D"]
    assert len(set(shades)) == 6
    assert points[0].get_markerfacecolor() == pytest.approx(to_rgb(COLOURS["harmonious"]))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axis.texts if text.get_text() in ("3.0", "n/a")]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_several_folders_each_have_their_reference(tmp_path: Path) -> None:
    one = write_conditions(tmp_path / "runs/one/instructions", "incompatible", "harmonious")
    two = write_conditions(tmp_path / "runs/two/instructions", "incompatible", "gold", n=20)
    text = compare_sets([tmp_path / "runs"], output=tmp_path / "out")
    assert [line.split("|")[1].strip() for line in text.splitlines() if "SMD" in line and "|" in line] == ["one", "two"]
    differences = pl.read_parquet(tmp_path / "out/differences.parquet")
    pairs = differences.select("reference", "condition").unique(maintain_order=True).rows()
    assert pairs == [("one/incompatible", "one/harmonious"), ("two/incompatible", "two/gold")]
    assert compare_sets([one, two]) == text
    against = compare_sets([one, two], "one/harmonious")
    assert read_cells(against)[""] == [
        "one/harmonious",
        "one/incompatible",
        "SMD",
        "two/incompatible",
        "SMD",
        "two/gold",
        "SMD",
    ]
    with pytest.raises(UserError, match="two has no condition harmonious, but others have"):
        group_conditions(["one/harmonious", "three/harmonious", "two/gold"], "harmonious")


def test_folders_get_the_shortest_names_that_tell_them_apart() -> None:
    assert name_folders([Path("/a/x/set"), Path("/a/y/set")]) == ["x", "y"]
    assert name_folders([Path("/a/set"), Path("/a/set/old")]) == ["set", "set/old"]
    assert name_folders([Path("/a/m/h"), Path("/a/m/e"), Path("/a/n/h")]) == ["m/h", "m/e", "n/h"]


def test_names_stay_text(tmp_path: Path) -> None:
    nasty = "{{ x }}<b>|\x1b[0m"
    rows = [make_row(i, question=f"{nasty} {i}?", choices=[f"{nasty}{c}" for c in "abcd"]) for i in range(4)]
    folder = write_set(tmp_path / "a | <b>", {"herbs_gold": make_table(rows), "herbs_odd | $x$": make_table(rows)})
    text = compare_sets([folder], output=tmp_path / "out")
    header, _, *lines = text.split("\n\n")[0].splitlines()
    assert " | odd \\| " in header
    assert {line.count(" | ") for line in lines} == {header.count(" | ")}
    assert (tmp_path / "out/loveplot.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop("completion"), r"set is no instruction set: .*train.parquet has no column 'completion'"),
        (
            lambda t: t.drop("gold_letter", "confidence"),
            "was built before instruction sets had the column 'gold_letter'. Build it",
        ),
        (lambda t: t.filter(pl.col("condition") == "general"), "herbs_gold has no row that answers a question"),
        (lambda t: t.with_columns(confidence=pl.lit("high")), "a column is not of the type"),
    ],
)
def test_sets_that_cannot_be_compared_are_named(tmp_path: Path, change, message: str) -> None:
    table = change(make_table([make_row(i, "gold") for i in range(4)]))
    folder = write_set(tmp_path / "set", {"herbs_gold": table, "herbs_incompatible": table})
    with pytest.raises(UserError, match=message):
        compare_sets([folder], output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    folder = write_conditions(tmp_path / "set", "incompatible", "harmonious")
    with pytest.raises(UserError, match="--reference gold is none of the conditions incompatible, harmonious"):
        compare_sets([folder], "gold")
    with pytest.raises(UserError, match="is no instruction set and holds none"):
        compare_sets([tmp_path / "nowhere"])
    alone = write_conditions(tmp_path / "alone", "gold")
    with pytest.raises(UserError, match="there is no other condition"):
        compare_sets([alone])
    done = run_command(sys.executable, "-m", "intervention", "compare", tmp_path / "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not RELEASED.is_dir(), reason="the paper's released groups are not here")
def test_the_released_groups_differ_in_more_than_agreement(tmp_path: Path) -> None:
    convert_released(RELEASED, tmp_path / "released")
    compare_sets([tmp_path / "released"], output=tmp_path / "out")
    found = {
        (row["condition"].rpartition("/")[0], row["condition"].rpartition("/")[2], row["measure"]): row
        for row in pl.read_parquet(tmp_path / "out/differences.parquet").iter_rows(named=True)
    }
    llama = ("llama-2-7b/engineering", "harmonious")
    assert found[(*llama, "confidence")]["smd"] > 0.5
    gold = [json.loads(line)["answer"] for line in _read_lines("llama-2-7b/engineering", "inconsistent-golden-exp")]
    right = [json.loads(line)["answer"] for line in _read_lines("llama-2-7b/engineering", "consistent-correct-exp-sample")]
    share, other = right.count(0) / len(right), gold.count(0) / len(gold)
    row = found[(*llama, "gold A")]
    assert (row["value"], row["reference_value"]) == pytest.approx((share, other))
    assert row["smd"] == pytest.approx((share - other) / ((share * (1 - share) + other * (1 - other)) / 2) ** 0.5)
    # The same questions and probes, but other responses.
    assert found["llama-2-7b/engineering", "self_aligning", "confidence"]["smd"] == 0
    assert found["llama-2-7b/engineering", "self_aligning", "says letters"]["smd"] > 1


def _read_lines(group: str, name: str) -> list[str]:
    import gzip

    file = RELEASED / group / f"{name}.jsonl"
    return (
        file.read_text().splitlines() if file.is_file() else gzip.open(f"{file}.gz", "rt", encoding="utf-8").read().splitlines()
    )
