"""Where questions come from: a module a source, each giving the questions of the contract and their origin."""
