"""Texts that nearly say the same (MinHash), and whether they do or only share a passage.

Sketches are rensa's, which take 2 s for 100,000 questions where datasketch's take 35 s. They only propose pairs; how alike
a pair is, is counted.
"""

import numpy as np
import polars as pl
from rensa import RMinHash
from scipy.sparse import csr_array

from intervention.sources.normalising import normalise_texts

PASSAGE = 50  # characters, from which on sentences in common are a passage
ALIKE = 0.5  # similarity, from which on what is beside a passage in two questions says the same
SHINGLE = 5  # characters; works for scripts without spaces too
BANDS, ROWS = 20, 6  # of a sketch: proposes 99.8% of the pairs at a similarity of 0.8, and 27% of those at 0.5
NEIGHBOURS = 20  # with how many others of its bucket, in the order of their texts, a text is compared
SEED = 0
_TEXTS_AT_ONCE, _PAIRS_AT_ONCE = 20_000, 50_000


def find_near_pairs(texts: pl.Series, similarity: float = 0.8, seed: int = SEED) -> pl.DataFrame:
    """Pairs of texts that share much of their runs of five characters (Jaccard similarity of the sets of them).

    Args:
        texts: different texts, normalised.
        similarity: how alike two have to be, above 0 to 1.
        seed: of the sketches, on which it depends which pairs below 99.8% are found.

    Returns:
        `left`, `right` (positions in `texts`, left < right), `similarity`, in the order of the positions.
    """
    empty = pl.DataFrame(schema={"left": pl.UInt32, "right": pl.UInt32, "similarity": pl.Float64})
    if len(texts) < 2:
        return empty
    shingles = pl.concat(_list_shingles(part) for part in texts.to_frame("text").iter_slices(_TEXTS_AT_ONCE))
    bands = pl.concat(_sketch(part, seed) for part in shingles.to_frame().iter_slices(_TEXTS_AT_ONCE))
    bands = bands.with_row_index("position").with_columns(texts.rank("ordinal").alias("rank"))
    pairs = pl.concat(_propose(bands, f"band_{i}") for i in range(BANDS)).unique().sort("left", "right")
    values, lengths = np.unique(shingles.explode().to_numpy(), return_inverse=True)[1], shingles.list.len().to_numpy()
    sets = csr_array((np.ones(len(values), np.int32), values, np.concatenate([[0], np.cumsum(lengths)])))
    found = [_measure(part, sets, lengths.astype(np.int64), similarity) for part in pairs.iter_slices(_PAIRS_AT_ONCE)]
    return pl.concat([empty, *found])


def find_passages(pairs: pl.DataFrame, texts: pl.Series) -> pl.Series:
    """Of each pair of texts that are nearly alike, whether they are different questions about one passage.

    They are where whole sentences of at least `PASSAGE` characters in all stand in both, and what is left of one is not alike
    (`ALIKE`) to what is left of the other, as it is where a word was changed.

    Args:
        pairs: `left` and `right`, positions in `texts`.
        texts: as they were written.
    """
    used = pl.concat([pairs["left"], pairs["right"]]).unique().to_list()
    sentences = dict(zip(used, _split_sentences(texts[used]), strict=True))
    return pl.Series(
        [_share_passage(sentences[i], sentences[j]) for i, j in pairs.select("left", "right").iter_rows()],
        dtype=pl.Boolean,
    )


def _split_sentences(texts: pl.Series) -> list[list[str]]:
    """The sentences of each text, normalised."""
    parts = texts.to_frame("text").select(pl.col("text").str.replace_all(r"([.!?]\s|[。！？\n])", "$1\x00").str.split("\x00"))
    return parts.select(pl.col("text").list.eval(normalise_texts(pl.element()))).to_series().to_list()


def _share_passage(one: list[str], two: list[str]) -> bool:
    shared = set(one) & set(two)
    if sum(map(len, shared)) < PASSAGE:
        return False
    left, right = (" ".join(part for part in parts if part not in shared) for parts in (one, two))
    runs, others = ({text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1))} for text in (left, right))
    return bool(left and right) and len(runs & others) < ALIKE * len(runs | others)


def _list_shingles(texts: pl.DataFrame) -> pl.Series:
    """The different runs of characters of each text, hashed; the whole of a text that is shorter than a run."""
    runs = [pl.col("text").str.slice(i).str.extract_all(rf"(?s).{{{SHINGLE}}}") for i in range(SHINGLE)]
    short = pl.col("text").str.len_chars() < SHINGLE
    every = pl.when(short).then(pl.concat_list("text")).otherwise(pl.concat_list(runs))
    return texts.select(shingles=every.list.eval(pl.element().hash(seed=SEED)).list.unique(maintain_order=True)).to_series()


def _sketch(shingles: pl.DataFrame, seed: int) -> pl.DataFrame:
    """One number a band of each text's sketch: texts that have one in common may be alike."""
    lengths = shingles["shingles"].list.len().to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.uint64)
    hashes = shingles["shingles"].explode().to_numpy()
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, BANDS * ROWS, seed)
    digests = pl.DataFrame(np.array(matrix.to_rows(), dtype=np.uint32), [f"digest_{i}" for i in range(BANDS * ROWS)])
    return digests.select(
        pl.struct(f"digest_{i * ROWS + j}" for j in range(ROWS)).hash(seed=SEED).alias(f"band_{i}") for i in range(BANDS)
    )


def _propose(bands: pl.DataFrame, band: str) -> pl.DataFrame:
    """Pairs of texts with the same number of a band: each text with those that follow it in the order of texts."""
    shared = bands.filter(pl.col(band).is_duplicated()).sort(band, "rank")
    following = [pl.col("position").shift(-i).over(band).alias(f"next_{i}") for i in range(1, NEIGHBOURS + 1)]
    pairs = shared.select("position", *following).unpivot(index="position", value_name="other").drop_nulls()
    return pairs.select(left=pl.min_horizontal("position", "other"), right=pl.max_horizontal("position", "other"))


def _measure(pairs: pl.DataFrame, sets: csr_array, lengths: np.ndarray, similarity: float) -> pl.DataFrame:
    left, right = pairs["left"].to_numpy(), pairs["right"].to_numpy()
    shared = sets[left].multiply(sets[right]).sum(axis=1)
    values = shared / (lengths[left] + lengths[right] - shared)
    return pairs.with_columns(similarity=pl.Series(values, dtype=pl.Float64)).filter(pl.col("similarity") >= similarity)
