"""The arithmetic of decomposition in numpy: a weight as a product of smaller ones."""
