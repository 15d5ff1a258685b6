"""What is computed of answers: consistency, states, means with intervals."""
