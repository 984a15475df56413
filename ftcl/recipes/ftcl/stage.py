"""Fine-tuning: ACM-Net's loss on both members of video pairs, and the contrast of the pairs as sequences.

Shapes: B pairs, T snippets, D feature channels, E embedding width, L candidates, C action classes. Members
are stacked along the batch, the B first ones before the B second ones.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ftcl.data import VideoDataset
from ftcl.data.pairs import Pairs, sample_pairs
from ftcl.dp import cosine_similarity, fsd, lcs
from ftcl.losses import (
    AcmnetLoss,
    acmnet_loss,
    fsd_contrast,
    fsd_tables,
    gather_rows,
    lcs_contrast,
    rank_by_attention,
    select_candidates,
)
from ftcl.models import ACMNet, ACMNetOutput
from ftcl.recipes.acmnet.config import AcmnetConfig
from ftcl.recipes.acmnet.inference import Evaluator, VideoOutput
from ftcl.recipes.acmnet.stage import build_network, configured_loss, draw_masks
from ftcl.recipes.acmnet.weights import advise_on_shape
from ftcl.recipes.config import to_flat
from ftcl.recipes.ftcl.config import FinetuneConfig, check_finetune
from ftcl.recipes.recipe import Config
from ftcl.training.network_stage import NetworkStage
from ftcl.training.seeding import seeded_generator
from ftcl.training.snippets import TrainSnippets
from ftcl.training.stage import Evaluation, NonFiniteLoss
from ftcl.training.state import TrainingState, adam, load_weights, run_identity


class FtclStage(NetworkStage):
    """Adam on shuffled batches of positive and negative pairs.

    Pairs, their order, snippets, dropout and shuffled candidates come from a generator each, so that runs of
    one seed with other losses see the same batches.
    """

    terms = (*AcmnetLoss._fields[1:], "acm", "fsd", "lcs", "total")

    def __init__(
        self,
        config: Config,
        data: VideoDataset,
        device: torch.device,
        seed: int,
        init: Mapping[str, Tensor] | None,
    ) -> None:
        if init is None:
            raise ValueError("fine-tuning starts from the weights of a pretrained ACM-Net; give them as init")
        self._model: AcmnetConfig = config["acmnet"]
        self._options: FinetuneConfig = config["finetune"]
        check_finetune(config, data)
        self.epochs = self._options.epochs
        self.epoch = 0
        network = build_network(self._model, data, with_fsd=True, fsd_width=self._options.fsd_width)
        network.initialise(seeded_generator(seed, "finetune/initialisation"))
        own = {
            name: value for name, value in network.state_dict().items() if name.startswith("feature_trans.")
        }
        load_weights(network, {**own, **init}, "the pretrained model", advise_on_shape)
        network.to(device)
        self._network = network
        self._snippets = TrainSnippets(data, device)
        self._evaluator = Evaluator(data, config["localization"], self._model.num_snippets, device)
        self._device = device
        self._seed = seed
        self._pairs = seeded_generator(seed, "finetune/pairs")
        self._order = seeded_generator(seed, "finetune/order")
        self._sampling = seeded_generator(seed, "finetune/snippets")
        self._dropout = seeded_generator(seed, "finetune/dropout", device)
        self._shuffling = seeded_generator(seed, "finetune/candidates", device)
        self._state = TrainingState(
            network,
            adam(network.parameters(), self._options.learning_rate, self._options.weight_decay),
            {
                "pairs": self._pairs,
                "order": self._order,
                "snippets": self._sampling,
                "dropout": self._dropout,
                "candidates": self._shuffling,
            },
            run_identity(
                "finetune",
                to_flat({group: config[group] for group in ("acmnet", "localization", "finetune")}),
                data.fingerprint,
                seed,
                init,
            ),
        )

    def start_epoch(self) -> tuple[int, Iterator[tuple[Tensor, ...]]]:
        if self._options.pair_sampling == "once":
            # Drawn from the seed each time, the pairs of the run need no place in the checkpoint.
            pairs, index_VS = self._draw(
                seeded_generator(self._seed, "finetune/pairs"),
                seeded_generator(self._seed, "finetune/snippets"),
            )
        else:
            pairs, index_VS = self._draw(self._pairs, self._sampling)
        video_P2 = torch.cat(pairs)
        is_positive_P = torch.arange(len(video_P2)) < len(pairs.positive)
        order_P = torch.randperm(len(video_P2), generator=self._order)
        batches = order_P.split(self._options.batch_size)
        return len(batches), (
            self._step(video_P2[pair_B].T.flatten(), index_VS, is_positive_P[pair_B].to(self._device))
            for pair_B in batches
        )

    def _draw(self, for_pairs: torch.Generator, for_snippets: torch.Generator) -> tuple[Pairs, Tensor]:
        pairs = sample_pairs(
            self._snippets.label_sets,
            for_pairs,
            num_pairs=self._options.num_pairs,
            labels_random=self._options.pair_labels == "random",
        )
        return pairs, self._snippets.sample(self._model.num_snippets, for_snippets)

    def _step(self, video_2B: Tensor, index_VS: Tensor, is_positive_B: Tensor) -> tuple[Tensor, ...]:
        """One update; the unweighted terms in the order of `terms`, 0 for a contrast of weight 0."""
        options = self._options
        x_2BTD = self._snippets.batch(video_2B, index_VS)
        labels_2BC = self._snippets.labels_VC[video_2B]
        masks = draw_masks(self._model, x_2BTD, self._network.snippet_cls.in_features, self._dropout)
        output: ACMNetOutput = self._network(x_2BTD, masks)
        acm, *acm_terms = acmnet_loss(output, labels_2BC, **configured_loss(self._model, options.log_eps))
        # The contrasts refuse NaN on a CPU as a caller's mistake; here it is training that diverged.
        # A device is not asked each step: it would have to wait, and the epoch's end finds it too.
        if acm.device.type == "cpu" and not acm.isfinite():
            raise NonFiniteLoss(self.epoch + 1, "acm")
        total = acm
        fsd_loss = lcs_loss = acm.new_zeros(())
        if options.lambda_fsd or options.lambda_lcs:
            ranking_2BT = rank_by_attention(output.attention_BTK[:, :, 0])
        if options.lambda_fsd:
            fsd_loss = self._fsd_loss(output.embedding_BTE, ranking_2BT, is_positive_B)
            total = total + options.lambda_fsd * fsd_loss
        if options.lambda_lcs:
            lcs_loss = self._lcs_loss(output.embedding_BTE, ranking_2BT, is_positive_B)
            total = total + options.lambda_lcs * lcs_loss
        self._state.optimizer.zero_grad()
        total.backward()
        self._state.optimizer.step()
        return (*acm_terms, acm, fsd_loss, lcs_loss, total)

    def _fsd_loss(self, embedding_2BTE: Tensor, ranking_2BT: Tensor, is_positive_B: Tensor) -> Tensor:
        options = self._options
        action_2BL, background_2BL = _fsd_candidates(ranking_2BT, options, self._shuffle())
        num_pairs = len(is_positive_B)
        # Positive pairs compare action with action, negative ones action with the other video's background.
        second_BL = torch.where(is_positive_B[:, None], action_2BL[num_pairs:], background_2BL[num_pairs:])
        chosen_2BL = torch.cat((action_2BL[:num_pairs], second_BL))
        assert self._network.feature_trans is not None
        compared_2BLF = self._network.feature_trans(gather_rows(embedding_2BTE, chosen_2BL))
        return fsd_contrast(
            compared_2BLF, is_positive_B, gamma=options.fsd_gamma, alignment=options.alignment
        )

    def _lcs_loss(self, embedding_2BTE: Tensor, ranking_2BT: Tensor, is_positive_B: Tensor) -> Tensor:
        options = self._options
        chosen_2BL = select_candidates(ranking_2BT, 0, options.lcs_len, shuffle=self._shuffle())
        return lcs_contrast(
            embedding_2BTE,
            chosen_2BL,
            is_positive_B,
            threshold=options.lcs_tau,
            gamma=options.lcs_gamma,
            alignment=options.alignment,
        )

    def _shuffle(self) -> torch.Generator | None:
        return self._shuffling if self._options.candidate_order == "shuffled" else None

    def evaluate(self, split: str, *, detail_videos: Sequence[str] = ()) -> Evaluation:
        return self._evaluator.evaluate(
            self._network,
            split,
            epoch=self.epoch,
            detail_videos=detail_videos,
            pair_details=self._pair_details,
        )

    def _pair_details(
        self, network: ACMNet, first: VideoOutput, second: VideoOutput
    ) -> dict[str, np.ndarray]:
        """Tables and alignments of two videos as a positive pair, and the snippets of their rows and columns.

        Whatever the arm trains with, both are aligned by dynamic programming: `fsd_value` and `lcs_value` at
        the configured temperature, whose derivatives to the cells are the expected alignments `fsd_expected`
        and `lcs_expected`; `fsd_path` and `lcs_path` are those of the plain maximum, 1 on the best path (LCS:
        on its matches) and 0 elsewhere.
        """
        options = self._options
        arrays: dict[str, Tensor] = {}
        fsd_rows, lcs_rows = [], []
        for member, video in (("first", first), ("second", second)):
            embedding_1TE = video.embedding_TE[None]
            ranking_1T = rank_by_attention(video.attention_TK[None, :, 0])
            fsd_1L = select_candidates(ranking_1T, 0, options.fsd_len)
            lcs_1L = select_candidates(ranking_1T, 0, options.lcs_len)
            arrays[f"fsd_snippets_{member}"] = fsd_1L
            arrays[f"lcs_snippets_{member}"] = lcs_1L
            assert network.feature_trans is not None
            fsd_rows.append(network.feature_trans(gather_rows(embedding_1TE, fsd_1L)))
            lcs_rows.append(gather_rows(embedding_1TE, lcs_1L))
        arrays["fsd_match"], arrays["fsd_gap"] = match_1LL, gap_1LL = fsd_tables(*fsd_rows)
        arrays["lcs_similarity"] = similarity_1LL = cosine_similarity(*lcs_rows)
        arrays["fsd_value"], arrays["fsd_expected"] = _aligned(
            lambda match_1LL: fsd(match_1LL, gap_1LL, options.fsd_gamma), match_1LL
        )
        arrays["lcs_value"], arrays["lcs_expected"] = _aligned(
            lambda similarity_1LL: lcs(similarity_1LL, options.lcs_tau, gamma=options.lcs_gamma),
            similarity_1LL,
        )
        _, arrays["fsd_path"] = _aligned(lambda match_1LL: fsd(match_1LL, gap_1LL, 0.0), match_1LL)
        _, arrays["lcs_path"] = _aligned(
            lambda similarity_1LL: lcs(similarity_1LL, options.lcs_tau), similarity_1LL
        )
        return {name: value[0].cpu().numpy() for name, value in arrays.items()}


def _aligned(value: Callable[[Tensor], Tensor], table_1LL: Tensor) -> tuple[Tensor, Tensor]:
    """An alignment's value, (1,), and its derivative to each cell of the table, (1, L, L)."""
    with torch.enable_grad():
        table_1LL = table_1LL.detach().requires_grad_()
        value_1 = value(table_1LL)
        (derivative_1LL,) = torch.autograd.grad(value_1.sum(), table_1LL)
    return value_1.detach(), derivative_1LL


def _fsd_candidates(
    ranking_BT: Tensor, options: FinetuneConfig, shuffle: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Snippet indices of action and of background, (B, L) each."""
    length, num_snippets = options.fsd_len, ranking_BT.shape[1]
    start = length if options.fsd_background == "next_ranked" else num_snippets - length
    return (
        select_candidates(ranking_BT, 0, length, shuffle=shuffle),
        select_candidates(ranking_BT, start, start + length, shuffle=shuffle),
    )
