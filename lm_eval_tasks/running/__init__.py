"""One run of lm-eval: its command line, and what is put between that and the evaluation."""
