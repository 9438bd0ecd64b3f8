"""The same ablation by captum's ``LayerFeatureAblation``, an implementation that owes nothing to ours, to compare with.

captum runs the whole network from the image, holds the quantized latent as the decoder gets it, puts the background codeword's vector
in place of the chosen positions, and returns how much each output falls.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from drlib.cohort.regions import LABELS
from drlib.radiomics.ablation import replaced_tokens
from drlib.segmentation.model import TrainedModel


def captum_change(model: TrainedModel, image: np.ndarray, codewords: Sequence[int], background: int, every: int = 1) -> np.ndarray:
    """Return the map (ceil(H / every), ceil(W / every)) of ``responsible_regions`` for one slice (4, H, W), at every so-manieth pixel.

    captum attributes each output to each number of the layer, so that the logits of all pixels would take gigabytes: one label is asked
    for at a time, and ``every`` thins the pixels. Its attributions are signed; the map is the sum of their absolute values over the
    labels.

    Source: Kokhlikyan et al. 2020, "Captum: a unified and generic model interpretability library for PyTorch".
    """
    from captum.attr import LayerFeatureAblation

    network, inputs = model.network.eval(), torch.as_tensor(np.asarray(image, dtype=np.float32))[None].to(model.device)
    tokens = replaced_tokens(model, model.encode_to_codes(image[None]), codewords, background).to(model.device)  # (1, h, w)
    if not tokens.any():
        return np.zeros([len(range(0, side, every)) for side in image.shape[1:]], dtype=np.float32)

    def logits(images: Tensor, label: int) -> Tensor:
        return network(images).logits[:, label, ::every, ::every]

    ablation = LayerFeatureAblation(logits, network.decoder)
    vector = network.quantizer.lookup(torch.tensor([[[background]]], device=model.device))  # (1, D, 1, 1)
    options = {"layer_baselines": network._prepared(vector), "layer_mask": tokens[:, None].long().expand(-1, vector.shape[1], -1, -1)}
    total = torch.zeros(len(range(0, image.shape[1], every)), len(range(0, image.shape[2], every)))
    for label in range(len(LABELS)):
        falls = ablation.attribute(inputs, additional_forward_args=(label,), attribute_to_layer_input=True, **options)
        total += falls[:, 0, tokens[0]][:, 0].abs().reshape(total.shape).cpu()  # every position of the group has the same
    return total.numpy()
