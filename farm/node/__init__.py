"""The part of the farm that runs ON a board: one file, standard library only, installed by a role."""
