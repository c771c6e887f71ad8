"""Networks: a body that makes features, and a head whose mode says which rows answer for which class."""

from clbench.models.cnn import ConvNet
from clbench.models.features import Features
from clbench.models.head import Head, HeadKind, HeadMode
from clbench.models.mlp import MLP
from clbench.models.model import Model
from clbench.models.pretrained import Pretrained
from clbench.models.resnet import ReducedResNet18

__all__ = ["MLP", "ConvNet", "Features", "Head", "HeadKind", "HeadMode", "Model", "Pretrained", "ReducedResNet18"]
