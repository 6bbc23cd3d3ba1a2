"""Schedule: when each transfer and each step of a mapped layer ends, found without making all of them."""
