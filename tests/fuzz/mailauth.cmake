# One line for each target.
