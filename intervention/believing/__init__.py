"""From probes to what a base model believes, how surely, and how well it knows it."""
