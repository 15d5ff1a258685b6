"""The card of a trained model, and the way to the Hub."""
