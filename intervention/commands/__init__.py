"""The commands of `python -m intervention`, one file each."""
