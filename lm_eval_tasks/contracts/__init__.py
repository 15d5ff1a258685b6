"""What all stages share: words, contracts of files, and how they are read and written. Imports no other part of the project."""
