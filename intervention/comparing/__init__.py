"""What the conditions of instruction sets differ in."""
