"""How well `intervention agree` finds what clashes, and what training without it changes, where the truth is known."""
