"""`python -m intervention agree`: which rows of instruction data agree with what a model believes, and which clash with it."""
