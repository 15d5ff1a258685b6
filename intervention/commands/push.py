"""`python -m intervention push`: a question set, an instruction set or instruction data with verdicts onto the Hub."""

from pathlib import Path
from typing import Annotated

import typer


def push(
    folder: Annotated[Path, typer.Argument(help="What `build` or `questions` wrote, or `agree --action` (its folder data).")],
    repo: Annotated[str, typer.Option(help="The data set's name on the Hub: user/name. Made where it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="Only you and your organization see it.")] = False,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You may publish every part under its terms.")
    ] = False,
) -> None:
    """Publish a question set, an instruction set or instruction data with verdicts on the Hub, tagged with its run.

    \b
    The token is that of `hf auth login`, or HF_TOKEN. One repository holds one set: what an earlier push put there
    stays under its tag. Absolute paths in the manifest are cut to their last part; nothing else is changed.

    \b
    Example:
      python -m intervention push instructions --repo anna/herbs --private
      python -c "import datasets; print(datasets.load_dataset('anna/herbs', 'herbs_mix-0.4', revision='RUN'))"
    """
    from intervention.publishing.push import push_folder

    print("\n".join(push_folder(folder, repo, private, accept_licence)))
