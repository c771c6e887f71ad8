"""Networks: a body that makes features, and a head whose mode says which rows answer for which class."""

from clbench.models.alexnet import AlexNet
from clbench.models.bias_free_mlp import BiasFreeMLP
from clbench.models.cnn import ConvNet
from clbench.models.features import Features
from clbench.models.head import Head, HeadKind, HeadMode
from clbench.models.lenet import LeNet
from clbench.models.mlp import MLP
from clbench.models.model import Model
from clbench.models.pretrained import Pretrained
from clbench.models.resnet import ReducedResNet18

__all__ = [
    "MLP",
    "AlexNet",
    "BiasFreeMLP",
    "ConvNet",
    "Features",
    "Head",
    "HeadKind",
    "HeadMode",
    "LeNet",
    "Model",
    "Pretrained",
    "ReducedResNet18",
]
