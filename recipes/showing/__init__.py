"""What is trained on, shown before training: dry run, tokens, pages."""
