import torch

from aae.report.gallery import emptiest


def test_the_emptiest_places_are_those_furthest_from_every_code():
    codes = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    points = torch.tensor([[1.0, 0.0], [5.0, 0.0], [10.0, 3.0], [0.0, 4.0], [10.0, 0.0]])
    # Their distances to the nearest code are 1, 5, 3, 4 and 0.
    assert emptiest(points, codes, 3).tolist() == [1, 3, 2]
