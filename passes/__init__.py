"""Passes over the Relax module: they change the numbers of a network, in the order of the flow."""
