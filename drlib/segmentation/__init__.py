"""Eq. 1-4: the segmentation network with a vector quantizer between encoder and decoder, its training and its Dice."""
