import torch

from aae.report.paths import TYPICAL, straight_path, typical_images

CODES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [10.0, 0.0], [5.0, 1.0], [0.0, 6.0]])


def test_a_path_leads_straight_from_one_code_to_another():
    path = straight_path(CODES, 0, 2, 5)
    expected = torch.tensor([[0.0, 0.0], [2.5, 0.0], [5.0, 0.0], [7.5, 0.0], [10.0, 0.0]])
    torch.testing.assert_close(path, expected)


def test_the_typical_image_of_a_class_is_next_to_its_mean():
    labels = torch.tensor([0, 0, 0, 1, 1])
    assert len(typical_images(CODES, labels)) == 2
    assert typical_images(CODES, labels)[0] == 1  # the mean of the first three is (3.7, 0)


def test_of_many_classes_some_have_a_typical_image():
    labels = torch.arange(100)
    assert typical_images(torch.zeros(100, 2), labels) == [
        100 * k // TYPICAL for k in range(TYPICAL)
    ]


def test_typical_images_without_labels_are_spread_over_the_codes_in_pairs():
    codes = torch.stack([torch.arange(100.0).roll(30), torch.zeros(100)], dim=1)
    found = codes[typical_images(codes, None), 0]
    assert found.sort().values.tolist() == [100 * k // TYPICAL for k in range(TYPICAL)]
    assert (found[1::2] - found[::2]).tolist() == [50.0] * (TYPICAL // 2)
    same = typical_images(torch.zeros(20, 2), None)
    assert len(set(same)) == len(same) == TYPICAL, "different images, even if all codes are equal"
