"""From a mapped layer to the program that an accelerator executes."""
