"""Progress of long tasks, shown as a bar on a terminal or as lines in a log file."""

import time
from collections.abc import Callable, Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

# Arguments: the items, their number, a title. Yields the items and shows how many are done.
ShowProgress = Callable[[Iterable, int, str], Iterable]

# Number of lines that a whole training writes into a log file.
LOG_LINES = 10
# Losses beside a bar; the next ones follow on a further line, so that six fit into 80 columns.
LOSSES_ON_A_LINE = 3
# Only the losses, which come last, are wrapped on a terminal that is too narrow.
WHOLE = Column(no_wrap=True)
COLUMNS = (
    TextColumn("{task.description}"), BarColumn(12, table_column=WHOLE),
    MofNCompleteColumn(table_column=WHOLE), TimeRemainingColumn(table_column=WHOLE),
    TextColumn("{task.fields[losses]}", table_column=Column()),
)  # fmt: skip


def show_epochs(
    epochs: Iterable[dict[str, float]], total: int, title: str, console: Console | None = None
) -> Iterator[dict[str, float]]:
    """Yield the epochs of a training, and show its progress and its losses.

    Args:
        epochs: losses of each epoch, with its number under "epoch".
        total: number of epochs.
        title: what is being trained.
        console: where to show the progress; the standard output if not given.
    """
    console = console or Console(soft_wrap=True, highlight=False)
    if console.is_terminal:
        with Progress(*COLUMNS, console=console) as progress:
            task = progress.add_task(title, total=total, losses="")
            for losses in epochs:
                texts = _losses(losses, letters=3)
                lines = [
                    " ".join(texts[first : first + LOSSES_ON_A_LINE])
                    for first in range(0, len(texts), LOSSES_ON_A_LINE)
                ]
                progress.update(task, completed=losses["epoch"], losses="\n".join(lines))
                yield losses
        return
    start, every = time.monotonic(), max(1, total // LOG_LINES)
    for losses in epochs:
        epoch = int(losses["epoch"])
        if epoch == 1 or epoch % every == 0 or epoch == total:
            seconds = time.monotonic() - start
            console.print(f"{title} {epoch}/{total} {seconds:.0f} s {' '.join(_losses(losses))}")
        yield losses


def _losses(losses: dict[str, float], letters: int | None = None) -> list[str]:
    """Return the training losses; each word of their names may be cut to a number of letters."""
    return [
        f"{'_'.join(word[:letters] for word in name.removesuffix('_loss').split('_'))} {loss:.4f}"
        for name, loss in losses.items()
        if name.endswith("_loss") and not name.startswith("validation_")
    ]


def show_steps(items: Iterable, total: int, title: str, console: Console | None = None) -> Iterator:
    """Yield items, and show a bar on a terminal or a line in a log file.

    Args:
        items: the items.
        total: their number.
        title: what is being done.
        console: where to show the progress; the standard output if not given.
    """
    console = console or Console(highlight=False)
    if console.is_terminal:
        with Progress(*COLUMNS[:-1], console=console) as progress:
            yield from progress.track(items, total, description=title)
    else:
        console.print(f"{title}: {total}")
        yield from items


def silent(items: Iterable, *_: object) -> Iterable:
    """Return the items and show nothing."""
    return items
