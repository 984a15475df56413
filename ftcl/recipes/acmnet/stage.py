"""Pretraining: ACM-Net on single videos.

Shapes: B videos, T snippets, D feature channels, C action classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ftcl.data import VideoDataset
from ftcl.losses import AcmnetLoss, acmnet_loss
from ftcl.models import ACMNet, DropoutMasks, draw_dropout_masks
from ftcl.recipes.acmnet.config import AcmnetConfig, PretrainConfig
from ftcl.recipes.acmnet.inference import Evaluator
from ftcl.recipes.acmnet.weights import advise_on_shape
from ftcl.recipes.config import to_flat
from ftcl.recipes.recipe import Config
from ftcl.training.network_stage import NetworkStage
from ftcl.training.seeding import seeded_generator
from ftcl.training.snippets import TrainSnippets
from ftcl.training.stage import Evaluation
from ftcl.training.state import TrainingState, adam, load_weights, run_identity


def build_network(
    config: AcmnetConfig, data: VideoDataset, *, fsd_width: int | None = None, with_fsd: bool = False
) -> ACMNet:
    """ACM-Net for the data, with FTCL's linear layer where `with_fsd`; its weights are not initialised."""
    width = data.num_features if config.width is None else config.width
    return ACMNet(
        data.num_features,
        len(data.classes),
        width=width,
        topk_divisors=(config.topk_instance, config.topk_context, config.topk_background),
        fsd_width=(fsd_width or width // 2) if with_fsd else None,
    )


def draw_masks(config: AcmnetConfig, x_BTD: Tensor, width: int, generator: torch.Generator) -> DropoutMasks:
    """The dropout of one step."""
    num_videos, num_snippets, num_features = x_BTD.shape
    return draw_dropout_masks(
        (num_videos, num_snippets, num_features),
        width,
        dropout=config.dropout,
        generator=generator,
        embedding_dropout=config.embedding_dropout,
        attention_dropout=config.attention_dropout,
    )


def configured_loss(config: AcmnetConfig, log_eps: float) -> dict[str, Any]:
    """The options of `acmnet_loss` by name."""
    return {
        "log_eps": log_eps,
        "instance_weight": config.instance_weight,
        "margin": config.margin,
        "lambda_guide": config.lambda_guide,
        "lambda_feature": config.lambda_feature,
        "lambda_sparse": config.lambda_sparse,
        "sparse_reduction": config.sparse_reduction,
    }


class AcmnetStage(NetworkStage):
    """Adam on shuffled batches of videos, snippets drawn anew every epoch."""

    terms = (*AcmnetLoss._fields[1:], "total")

    def __init__(
        self,
        config: Config,
        data: VideoDataset,
        device: torch.device,
        seed: int,
        init: Mapping[str, Tensor] | None,
    ) -> None:
        self._model: AcmnetConfig = config["acmnet"]
        self._options: PretrainConfig = config["pretrain"]
        self.epochs = self._options.epochs
        self.epoch = 0
        network = build_network(self._model, data)
        if init is None:
            network.initialise(seeded_generator(seed, "initialisation"))
        else:
            # FTCL's layer takes no part in ACM-Net, so a fine-tuned model can be evaluated as one.
            own = {name: value for name, value in init.items() if not name.startswith("feature_trans.")}
            load_weights(network, own, "the initial model", advise_on_shape)
        network.to(device)
        self._network = network
        self._snippets = TrainSnippets(data, device)
        self._evaluator = Evaluator(data, config["localization"], self._model.num_snippets, device)
        self._order = seeded_generator(seed, "pretrain/order")
        self._sampling = seeded_generator(seed, "pretrain/snippets")
        self._dropout = seeded_generator(seed, "pretrain/dropout", device)
        self._state = TrainingState(
            network,
            adam(network.parameters(), self._options.learning_rate, self._options.weight_decay),
            {"order": self._order, "snippets": self._sampling, "dropout": self._dropout},
            run_identity(
                "pretrain",
                to_flat({group: config[group] for group in ("acmnet", "pretrain")}),
                data.fingerprint,
                seed,
                init,
            ),
        )

    def start_epoch(self) -> tuple[int, Iterator[tuple[Tensor, ...]]]:
        index_VS = self._snippets.sample(self._model.num_snippets, self._sampling)
        order_V = torch.randperm(len(self._snippets.names), generator=self._order)
        batches = order_V.split(self._options.batch_size)
        return len(batches), (self._step(video_B, index_VS) for video_B in batches)

    def _step(self, video_B: Tensor, index_VS: Tensor) -> tuple[Tensor, ...]:
        """One update; the unweighted terms and their weighted total."""
        x_BTD = self._snippets.batch(video_B, index_VS)
        width = self._network.snippet_cls.in_features
        output = self._network(x_BTD, draw_masks(self._model, x_BTD, width, self._dropout))
        loss_options = configured_loss(self._model, self._options.log_eps)
        total, *terms = acmnet_loss(output, self._snippets.labels_VC[video_B], **loss_options)
        self._state.optimizer.zero_grad()
        total.backward()
        self._state.optimizer.step()
        return (*terms, total)

    def evaluate(self, split: str, *, detail_videos: Sequence[str] = ()) -> Evaluation:
        return self._evaluator.evaluate(self._network, split, epoch=self.epoch, detail_videos=detail_videos)
