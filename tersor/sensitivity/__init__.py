"""Sensitivity: what each scheme of each layer does to the output, as a table and as a picture."""
