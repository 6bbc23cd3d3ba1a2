"""The IR in which passes and targets meet: reading and writing modules, and the integer operators in them."""
