"""Networks, and the layers that two or more of them share."""

from ftcl.models.acmnet import ACMNet, ACMNetOutput, DropoutMasks, draw_dropout_masks

__all__ = ["ACMNet", "ACMNetOutput", "DropoutMasks", "draw_dropout_masks"]
