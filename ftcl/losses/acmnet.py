"""The whole ACM-Net loss, term by term."""

from typing import Literal, NamedTuple

from torch import Tensor

from ftcl.losses.attention import feature_term, guide_term, sparse_term
from ftcl.losses.classification import branch_targets, cross_entropy
from ftcl.models.acmnet import ACMNetOutput


class AcmnetLoss(NamedTuple):
    """Scalars; the terms are unweighted, `total` is their weighted sum."""

    total: Tensor
    instance: Tensor
    context: Tensor
    background: Tensor
    guide: Tensor
    feature: Tensor
    sparse: Tensor


def acmnet_loss(
    output: ACMNetOutput,
    labels_BC: Tensor,
    *,
    log_eps: float,
    instance_weight: float,
    margin: float,
    lambda_guide: float,
    lambda_feature: float,
    lambda_sparse: float,
    sparse_reduction: Literal["sum", "mean"],
) -> AcmnetLoss:
    """w CE_inst + CE_ctx + CE_bg + l1 guide + l2 feature + l3 sparse, every term a mean over the B videos.

    `labels_BC` is multi-hot (float). The mean over both members of FTCL's pairs is this loss of their
    concatenation, since both members have the same count.
    """
    targets = branch_targets(labels_BC)
    instance = cross_entropy(output.instance_scores_BC1, targets.instance_BC1, log_eps)
    context = cross_entropy(output.context_scores_BC1, targets.context_BC1, log_eps)
    background = cross_entropy(output.background_scores_BC1, targets.background_BC1, log_eps)
    instance_attention_BT, context_attention_BT, _ = output.attention_BTK.unbind(2)
    guide = guide_term(output.instance_cas_BTC1[:, :, -1], instance_attention_BT)
    feature = feature_term(
        output.instance_feature_BE, output.context_feature_BE, output.background_feature_BE, margin
    )
    sparse = sparse_term(instance_attention_BT, context_attention_BT, sparse_reduction)
    total = (
        instance_weight * instance
        + context
        + background
        + lambda_guide * guide
        + lambda_feature * feature
        + lambda_sparse * sparse
    )
    return AcmnetLoss(total, instance, context, background, guide, feature, sparse)
