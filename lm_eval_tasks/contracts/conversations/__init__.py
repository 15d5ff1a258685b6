"""Anybody's instruction data: its forms, its assistant turns and what is wrong with them, and the way back."""
