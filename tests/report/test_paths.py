import torch

from aae.report.paths import straight_path, typical_images

CODES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [10.0, 0.0], [5.0, 1.0], [0.0, 6.0]])


def test_a_path_leads_straight_from_one_code_to_another():
    path = straight_path(CODES, 0, 2, 5)
    expected = torch.tensor([[0.0, 0.0], [2.5, 0.0], [5.0, 0.0], [7.5, 0.0], [10.0, 0.0]])
    torch.testing.assert_close(path, expected)


def test_the_typical_image_of_a_class_is_next_to_its_mean():
    labels = torch.tensor([0, 0, 0, 1, 1])
    assert typical_images(CODES, labels)[0] == 1  # the mean of the first three is (3.7, 0)
