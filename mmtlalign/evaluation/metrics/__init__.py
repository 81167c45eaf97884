from .feature_metric import FeatureMetric
from .isotropy import Isotropy, iso_score, mean_cosine, partition_score
from .knn_accuracy import KNNAccuracy
from .linear_probe import LinearProbe

__all__ = [
    'FeatureMetric',
    'Isotropy',
    'KNNAccuracy',
    'LinearProbe',
    'iso_score',
    'mean_cosine',
    'partition_score',
]
