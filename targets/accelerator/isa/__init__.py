"""What an accelerator executes: instructions, programs of them, their text and their bytes."""
