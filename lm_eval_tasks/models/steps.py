"""What an engine is asked so that its prefix cache serves what texts share: one token, generated after each step of a text.

A *step* is a prompt after which tokens are scored: the context, where a letter is scored; where the text of a choice is, also
the context with the first of its tokens, with the first two, and so on. What texts share is asked once. Plain data, no torch.
"""

from collections.abc import Iterable, Iterator, Mapping

from lm_eval_tasks.models.tree import Tokens

Text = tuple[Tokens, Tokens]  # token ids of the context, and of the continuation that is scored after it

MOST_IDS = 128  # tokens whose log-probabilities one request may ask for


def find_steps(texts: Iterable[Text]) -> dict[Tokens, list[int]]:
    """The steps of texts, sorted so that shared prefixes come together, each with the tokens that are scored after it.

    >>> find_steps([((5, 6), (7, 8)), ((5, 6), (9,))])
    {(5, 6): [7, 9], (5, 6, 7): [8]}
    """
    steps: dict[Tokens, dict[int, None]] = {}
    for context, continuation in texts:
        for number, token in enumerate(continuation):
            steps.setdefault(context + continuation[:number], {})[token] = None
    return {step: list(steps[step]) for step in sorted(steps)}


def cut_steps(steps: Mapping[Tokens, list[int]], most: int = MOST_IDS) -> Iterator[tuple[Tokens, list[int]]]:
    """The requests that ask for steps: one a step, but for those after which more than `most` tokens are scored.

    >>> list(cut_steps({(5, 6): [7, 8, 9]}, 2))
    [((5, 6), [7, 8]), ((5, 6), [9])]
    """
    for step, tokens in steps.items():
        for start in range(0, len(tokens), most):
            yield step, tokens[start : start + most]


def batch_texts(texts: Mapping[int, Text], size: int) -> Iterator[dict[int, Text]]:
    """Batches of numbered texts, sorted, of about `size` steps each; the texts after one context stay together.

    >>> list(batch_texts({0: ((5,), (7,)), 1: ((3,), (7,)), 2: ((5,), (8,))}, 1))
    [{1: ((3,), (7,))}, {0: ((5,), (7,)), 2: ((5,), (8,))}]
    """
    batch: dict[int, Text] = {}
    steps, last = 0, None
    for number, (context, continuation) in sorted(texts.items(), key=lambda item: item[1]):
        if steps >= size and context != last:
            yield batch
            batch, steps = {}, 0
        steps += len(continuation) - (context == last)
        batch[number], last = (context, continuation), context
    if batch:
        yield batch


def find_whole(texts: Mapping[int, Text], block: int) -> set[int]:
    """The numbers of texts that are read in fewer tokens as wholes than step by step.

    A cache gives back whole blocks of tokens, so a step reads half a block anew on the average, and a whole text all of itself.

    Args:
        texts: by their numbers.
        block: how many tokens a block of the cache holds.

    >>> prompt = tuple(range(100))
    >>> find_whole({0: (prompt, (1, 2)), 1: (prompt, (3, 4)), 2: ((9,), prompt)}, 16)
    {2}
    """
    groups: dict[Tokens, list[int]] = {}
    for number, (context, _) in texts.items():
        groups.setdefault(context, []).append(number)
    whole: set[int] = set()
    for context, numbers in groups.items():
        more = [len(texts[number][1]) - 1 for number in numbers]
        if len(context) + sum(more) * (block + 1) / 2 > len(numbers) * len(context) + sum(more):
            whole.update(numbers)
    return whole
