"""The few-shot prompt in which a base model reads anybody's conversations: three worked answers, then the conversation.

A base model that has seen a few good answers continues in their form, so that what surprises it in a response is what the
response says. The form is URIAL's (Lin et al. 2023, arXiv 2312.01552, figure 5); the words are this project's.
"""

from collections.abc import Mapping, Sequence

from lm_eval_tasks.contracts.prompts import FENCE, QUERY_HEAD

ANSWER_HEAD = "# Answer:"

_INSTRUCTION = """\
Below are queries of people and the answers of a helpful assistant. An answer keeps to what was asked: it is short where a \
fact is wanted, and explains where an explanation is. It is honest about what is not known, and declines what would do harm."""

# A fact, an explanation, and a request that is declined: the three kinds of answers whose form differs most.
_DEMONSTRATIONS = (
    ("Which metal is liquid at room temperature?", "Mercury."),
    (
        "Why do leaves change colour in autumn?",
        "Leaves are green because of chlorophyll, with which a tree makes sugar out of light. When days become short and cold, "
        "the tree takes the chlorophyll apart and stores what it is made of. Yellow and orange pigments, which were there all "
        "summer, then show; some trees also make red ones.",
    ),
    (
        "My neighbour's dog barks all night. What can I put into its food to make it stop for good?",
        "I will not help to hurt the dog. Speak with your neighbour first; many owners do not know how far the barking is "
        "heard. If that changes nothing, the town's office for noise or animals can help, and may offer to mediate.",
    ),
)


def write_in_context(messages: Sequence[Mapping[str, str]], system: str | None = None) -> str:
    r"""The prompt after which a base model answers the last message of a conversation; it ends in an open fence.

    Args:
        messages: a conversation up to its last user message, each `role` (`user`, `assistant`) and `content`.
        system: what the conversation's system prompt says; it stands with the instruction.

    >>> write_in_context([{"role": "user", "content": "Which is white?"}])[-48:]
    '# Query:\n```\nWhich is white?\n```\n\n# Answer:\n```\n'
    """
    instruction = f"{_INSTRUCTION}\n\n{system}" if system else _INSTRUCTION
    shown = [{"role": role, "content": text} for pair in _DEMONSTRATIONS for role, text in zip(("user", "assistant"), pair)]
    heads = {"user": QUERY_HEAD, "assistant": ANSWER_HEAD}
    blocks = [f"{heads[message['role']]}\n{FENCE}\n{message['content']}\n{FENCE}" for message in (*shown, *messages)]
    return "\n\n".join([f"# Instruction\n\n{instruction}", *blocks, f"{ANSWER_HEAD}\n{FENCE}\n"])
