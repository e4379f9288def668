"""Audio amplifier models: RTNeural, AIDA-X, GuitarML, Neural Amp Modeler."""
