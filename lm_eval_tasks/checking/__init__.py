"""What can be found wrong with a task before a model is loaded."""
