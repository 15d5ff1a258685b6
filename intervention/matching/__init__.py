"""Which questions the conditions take, so that they differ in agreement only."""
