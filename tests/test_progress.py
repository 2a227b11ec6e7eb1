import io

from rich.console import Console

from aae.progress import show_epochs


def epochs(count: int) -> list[dict[str, float]]:
    return [
        {"epoch": k, "reconstruction_loss": 1 / k, "validation_reconstruction_loss": 2.0}
        for k in range(1, count + 1)
    ]


def test_a_log_file_gets_a_line_every_few_epochs():
    out = io.StringIO()
    console = Console(file=out, soft_wrap=True)
    assert list(show_epochs(epochs(100), 100, "train_ae", console)) == epochs(100)
    lines = out.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("train_ae 1/100 ")
    assert lines[0].endswith(" reconstruction 1.0000")
    assert lines[-1].startswith("train_ae 100/100 ")
    assert lines[-1].endswith(" reconstruction 0.0100")
    assert "\x1b" not in out.getvalue()


def test_a_terminal_gets_a_bar_with_the_running_losses():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80)
    names = ("reconstruction_loss", "discriminator_loss", "category_generator_loss")
    three = [losses | dict.fromkeys(names, 1 / 3) for losses in epochs(50)]
    assert list(show_epochs(three, 50, "train_aae", console)) == three
    last = out.getvalue().splitlines()[-2]  # the last line shows the cursor again
    for part in ("train_aae", "━━━━━━━━", "50/50", "rec 0.3333 dis 0.3333 cat_gen 0.3333"):
        assert part in last


def test_six_losses_fit_beside_the_bar_on_80_columns():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system=None, width=80)
    names = (
        "reconstruction_loss", "discriminator_loss", "generator_loss",
        "category_discriminator_loss", "category_generator_loss", "classification_loss",
    )  # fmt: skip
    six = [losses | dict.fromkeys(names, 1 / 3) for losses in epochs(100)]
    assert list(show_epochs(six, 100, "train_aae", console)) == six
    first, second = out.getvalue().splitlines()[-3:-1]
    for part in ("train_aae", 12 * "━", "100/100", "0:00:00", "rec 0.3333 dis 0.3333 gen 0.3333"):
        assert part in first
    assert second.strip() == "cat_dis 0.3333 cat_gen 0.3333 cla 0.3333"


def test_epochs_are_passed_on_one_by_one():
    """Code after the bar (tracking) gets an epoch before the next one is trained."""
    trained = []

    def training():
        for losses in epochs(3):
            trained.append(losses["epoch"])
            yield losses

    shown = show_epochs(training(), 3, "train_ae", Console(file=io.StringIO()))
    next(shown)
    assert trained == [1]
