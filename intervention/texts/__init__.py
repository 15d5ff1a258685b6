"""Explanations and contexts: what is asked for, read, added, and what a text states."""
