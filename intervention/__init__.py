"""Writes data sets: from questions and what a model believes to instruction sets that agree or clash with it."""
