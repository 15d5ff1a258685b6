"""The logs of lm-eval and the tables that are made of them."""
