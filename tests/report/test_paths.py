import torch

from aae.report.paths import path_through_widest_gap, straight_path, typical_images

CODES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [10.0, 0.0], [5.0, 1.0], [0.0, 6.0]])


def test_a_path_leads_straight_from_one_code_to_another():
    path = straight_path(CODES, 0, 2, 5)
    expected = torch.tensor([[0.0, 0.0], [2.5, 0.0], [5.0, 0.0], [7.5, 0.0], [10.0, 0.0]])
    torch.testing.assert_close(path, expected)


def test_the_typical_image_of_a_class_is_next_to_its_mean():
    labels = torch.tensor([0, 0, 0, 1, 1])
    assert typical_images(CODES, labels)[0] == 1  # the mean of the first three is (3.7, 0)


def test_the_widest_gap_is_where_no_code_is_near():
    # Half-way from (10, 0) to (0, 6) the nearest code is 3.5 away; on the other two paths it is
    # never further away than 3.
    assert path_through_widest_gap(CODES, [0, 2, 4]) == (2, 4)
