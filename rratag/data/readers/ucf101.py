"""UCF101 lists: ``Class/v_Class_g01_c01.avi 1`` a line, without the number in ``testlist01.txt``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rratag.data.readers.annotation import Annotation, always, is_utf8
from rratag.data.readers.opened import LabelFile, split_in_name
from rratag.data.readers.text import numbered_lines
from rratag.errors import LabelError
from rratag.untrusted import shown

SAYS = "UCF101 list (Class/v_Class_g01_c01.avi [NUMBER])"
NAMES_FILE = "classInd.txt"

_LINE = re.compile(
    r"(?P<path>(?:.*/)?(?P<stem>v_(?P<name>[^/]+)_g[0-9]+)_c[0-9]+(?:\.\w+)?)(?:\s+(?P<number>[0-9]{1,9}))?"
)


def recognise(file: LabelFile) -> bool:
    """Whether at least half of the lines name a clip as UCF101 does; another line is then a fault that `read` tells."""
    num_clips = sum(_LINE.fullmatch(line) is not None for line in file.lines)
    return num_clips > 0 and 2 * num_clips >= len(file.lines)


def read(file: LabelFile) -> Iterator[Annotation]:
    """One annotation a line: the label is the folder, the group that in the file's name, within its class.

    The number says nothing that the folder does not; in the original lists (``trainlist``, ``testlist``) it is checked
    against ``classInd.txt``, if that lies beside them. The split is that in the file's name.

    Raises
    ------
    LabelError
        With file and line.
    """
    split, names = split_in_name(file.path), _names(file.path)
    for number, line in numbered_lines(file.path):
        place = f"{file.path}:{number}"
        found = _LINE.fullmatch(line)
        if found is None:
            raise LabelError(f"{place}: expected Class/v_Class_g01_c01.avi and a number, found {shown(line)}")
        *folders, base = found["path"].split("/")
        label = next((folder.strip() for folder in reversed(folders) if folder.strip() not in ("", ".")), found["name"])
        if _letters(label) != _letters(found["name"]):
            raise LabelError(
                f"{place}: the folder is {shown(label)}, the clip's class {shown(found['name'])}; expected that class"
                " as the folder, or none"
            )
        if not is_utf8(label):
            raise LabelError(f"{place}: {shown(label)} is not UTF-8")
        if names is not None and found["number"] is not None and names.get(int(found["number"])) != label:
            said = names.get(int(found["number"]))
            raise LabelError(f"{place}: {found['number']} is {shown(said)} in {NAMES_FILE}, the folder {shown(label)}")
        group = found["stem"].removeprefix("v_")
        spellings = (found["path"], base)  # no two clips share a name, so that the folder need not be the same
        where, at = f"line {number} of {file.path.name}", always(place)
        yield Annotation(base, label, where, at, split=split, group=group, spellings=spellings)


def _letters(name: str) -> str:
    # HandstandPushups/v_HandStandPushups_g01_c01.avi is in the original lists
    return re.sub(r"[\W_]", "", name).lower()


def _names(path: Path) -> dict[int, str] | None:
    """Class names by their number, from the original lists' own file."""
    beside = path.with_name(NAMES_FILE)
    if not path.name.lower().startswith(("trainlist", "testlist")) or not beside.is_file():
        return None
    found: dict[int, str] = {}
    for number, line in numbered_lines(beside):
        said = re.fullmatch(r"([0-9]{1,9})\s+(\S.*)", line)
        if said is None or int(said[1]) in found:
            raise LabelError(f"{beside}:{number}: expected a new number and a class name, found {shown(line)}")
        found[int(said[1])] = said[2]
    return found
