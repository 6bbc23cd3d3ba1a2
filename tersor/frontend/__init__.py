"""Import: models from files into the Relax module that the passes work on."""
