"""What is wrong with questions, and a copy without it."""
