"""Feature maps become scores: the paper's Eq. 1-6.

In: tensors [B,N,h,w,C]. Out: logits and attention. Knows nothing of files;
imports config, records, errors."""
