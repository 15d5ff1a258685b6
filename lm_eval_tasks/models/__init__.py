"""`hf-prefix`: a model class of lm-eval that computes what prompts share only once."""
